"""A registry that misbehaves for real: it serves true images over HTTP and, where a test asks for it, lies, stalls or refuses.

Each fault is a function from the connection and the honest answer to what is sent in its place. `FakeRegistry.break_at`
puts it before the requests whose path matches.
"""

from __future__ import annotations

import http.server
import re
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from scripts.lab.images import Blob, Image, Index, encode
from tests.fakes.answers import Answer as Answer
from tests.fakes.pushed import Pushed

_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it came; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Fault = Callable[["Handler", Answer], Answer | None]
"""Takes the honest answer and returns the one to send, or None when it has dealt with the connection itself."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection to the fake registry."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    def do_HEAD(self) -> None:
        """Answer a HEAD: the headers of the GET."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve()

    def do_PATCH(self) -> None:
        """Answer a PATCH."""
        self._serve()

    def do_PUT(self) -> None:
        """Answer a PUT."""
        self._serve()

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self._serve()

    def _serve(self) -> None:
        registry = self.server.registry
        path = urlsplit(self.path).path
        headers = {k.lower(): v for k, v in self.headers.items()}
        length = int(headers.get("content-length", "0"))
        keep = registry.pushed.bytes_to_keep(self.path, length)
        body = self.rfile.read(length if keep is None else keep)
        registry.record(Recorded(self.command, self.path, headers, body))
        if keep is not None:
            registry.pushed.keep(self.path, body)
            self.close_connection = True
            return
        with registry.answering():
            answer: Answer | None = registry.honest(self.path, headers, self.command, body)
            fault = registry.fault_for(path)
            if fault is not None and answer is not None:
                answer = fault(self, answer)
            if answer is not None:
                self.send(answer)

    def wait_for_end(self) -> None:
        """Say nothing more until the client hangs up or the registry closes; the connection ends then."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self.server.registry.released.is_set() and not poll.poll(20):
            pass
        self.close_connection = True

    def send(self, answer: Answer) -> None:
        """Send `answer`; a body that is not as long as declared ends the connection."""
        length = len(answer.body) if answer.declared_bytes is None else answer.declared_bytes
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            if length != len(answer.body):
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; tests read `FakeRegistry.requests`."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what many tests do."""


class FakeRegistry:
    """A threaded HTTP registry on a free port of 127.0.0.1; use it as a context manager.

    Attributes:
        address: ``127.0.0.1:<port>``.
        busy: how many requests it is answering now; one whose answer stalls counts until the client hangs up.
        pushed: what it was sent, and how it behaves towards those who send.
        released: set when the registry closes; stalled answers wait for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Recorded] = []
        self._blobs: dict[str, Blob] = {}
        self._manifests: dict[tuple[str, str], Blob] = {}
        self._faults: list[tuple[re.Pattern[str], Fault, int]] = []
        self.busy = 0
        self.released = threading.Event()
        self.pushed = Pushed()
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def requests(self) -> list[Recorded]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def serve(self, image: Image | Index, name: str) -> str:
        """Serve `image` as ``<repository>:<tag>`` and return the reference that pulls it."""
        repository, _, tag = name.rpartition(":")
        for blob in image.blobs:
            self._blobs[blob.digest] = blob
        for manifest in image.manifests:
            self._manifests[repository, manifest.digest] = manifest
        return self.serve_manifest(image.root, f"{repository}:{tag}")

    def serve_manifest(self, manifest: Blob, name: str) -> str:
        """Serve any bytes as the manifest of ``<repository>:<tag>``, ill-formed ones too."""
        repository, _, tag = name.rpartition(":")
        self._manifests[repository, tag] = manifest
        self._manifests[repository, manifest.digest] = manifest
        return f"{self.address}/{name}"

    def break_at(self, path: str, fault: Fault, *, times: int = 1 << 30) -> None:
        """Put `fault` in the way of the next `times` requests whose path matches the regular expression `path`."""
        with self._lock:
            self._faults.append((re.compile(path), fault, times))

    def mend(self) -> None:
        """Be honest from now on."""
        with self._lock:
            self._faults.clear()

    def record(self, request: Recorded) -> None:
        """Note a request."""
        with self._lock:
            self._requests.append(request)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request as being answered while the block runs."""
        with self._lock:
            self.busy += 1
        try:
            yield
        finally:
            with self._lock:
                self.busy -= 1

    def fault_for(self, path: str) -> Fault | None:
        """Return the fault in the way of this request, counting it down."""
        with self._lock:
            for i, (pattern, fault, times) in enumerate(self._faults):
                if times > 0 and pattern.search(path):
                    self._faults[i] = (pattern, fault, times - 1)
                    return fault
        return None

    def honest(self, target: str, headers: Mapping[str, str], method: str = "GET", body: bytes = b"") -> Answer:
        """Return what a good registry would say."""
        if answer := self.pushed.answer(method, target, headers, body):
            return answer
        parts = urlsplit(target)
        if parts.path == "/v2/":
            return Answer(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
        if parts.path == "/token":
            scope = parse_qs(parts.query).get("scope", [""])[0]
            return Answer(
                200, encode({"token": f"good:{scope}", "expires_in": 300}), {"Content-Type": "application/json"}
            )
        manifest = _MANIFEST.fullmatch(parts.path)
        if manifest and (found := self._manifest(manifest.group(1), manifest.group(2))):
            described = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest}
            etag = {"ETag": f'"{found.digest}"'} if self.pushed.etags else {}
            return Answer(200, found.data, described | etag)
        blob = _BLOB.fullmatch(parts.path)
        if blob and (sent := self.pushed.blobs.get((blob.group(1), blob.group(2)))) is not None:
            return _blob_answer(Blob(sent, "application/octet-stream"), headers.get("range", ""))
        if blob and (found := self._blobs.get(blob.group(2))):
            return _blob_answer(found, headers.get("range", ""))
        code = "MANIFEST_UNKNOWN" if manifest else "BLOB_UNKNOWN" if blob else "NAME_UNKNOWN"
        return Answer(
            404, encode({"errors": [{"code": code, "message": "not here"}]}), {"Content-Type": "application/json"}
        )

    def _manifest(self, repository: str, reference: str) -> Blob | None:
        return self.pushed.manifests.get((repository, reference)) or self._manifests.get((repository, reference))

    def close(self) -> None:
        """Let go of stalled connections and stop listening."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _blob_answer(blob: Blob, range_header: str) -> Answer:
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "Docker-Content-Digest": blob.digest,
    }
    wanted = _RANGE.fullmatch(range_header)
    if not wanted:
        return Answer(200, blob.data, headers)
    first = int(wanted.group(1))
    last = min(int(wanted.group(2) or len(blob.data)), len(blob.data) - 1)
    if first >= len(blob.data):
        return Answer(416, b"", {"Content-Range": f"bytes */{len(blob.data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
    return Answer(206, blob.data[first : last + 1], headers)
