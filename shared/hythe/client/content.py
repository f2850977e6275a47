"""The bus proxy of the content port: questions go over the bus, bytes over HTTP (`hythe.ports.namespace_content`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from hythe import subjects
from hythe.client.sync_bus import SyncBus
from hythe.client.transfer import append, download
from hythe.clock import ns_of
from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument, NotFound, OutOfRange, Unavailable
from hythe.ports.content import IngestStatus
from hythe.ports.namespace_content import LabelledBlob

PAGE = 500


class BusContent:
    """The content of one namespace on one host, by way of that host's distribution service; used by one thread at a time."""

    def __init__(self, bus: SyncBus, namespace: str, host: str) -> None:
        self._bus = bus
        self._namespace = namespace
        self._host = host

    def info(self, digest: Digest) -> LabelledBlob:
        """See `NamespaceContent.info`."""
        return _blob(self.ask("content", "info", digest=str(digest)))

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `NamespaceContent.read`."""
        return self.stream(digest, offset, length)

    def stream(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, in_flight: bool = False
    ) -> Iterator[bytes]:
        """Yield a range of a blob; with `in_flight` also of one whose download goes on, which then is followed to its end.

        Raises:
            NotFound, OutOfRange: as for `NamespaceContent.read`; raised by the call itself.
            Unavailable: the bytes broke off, which for a download in progress may mean that it failed.
        """
        opened = self.ask("content", "open", digest=str(digest), in_flight=in_flight)
        size_bytes = int(opened["size_bytes"])
        if not 0 <= offset <= size_bytes or (length is not None and length < 0):
            raise OutOfRange(f"read {digest}: range {offset}+{length} of a blob of {size_bytes} bytes")
        end = size_bytes if length is None else min(size_bytes, offset + length)
        return _read(f"read {digest}", opened["url"], offset, end, size_bytes)

    def walk(self, filters: Sequence[str] = ()) -> Iterator[LabelledBlob]:
        """See `NamespaceContent.walk`."""
        first = self.ask("content", "list", filters=list(filters), limit=PAGE)
        return self._pages(first, "content", "blobs", _blob, filters=list(filters))

    def label(self, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `NamespaceContent.label`."""
        return _blob(self.ask("content", "label", digest=str(digest), labels=dict(changes)))

    def delete(self, digest: Digest) -> None:
        """See `NamespaceContent.delete`."""
        self.ask("content", "remove", digest=str(digest))

    def open_ingest(
        self,
        reference: str,
        *,
        total_bytes: int | None = None,
        expected: Digest | None = None,
        resume: bool = False,
    ) -> BusIngest:
        """See `NamespaceContent.open_ingest`."""
        order = {
            "reference": reference,
            "total_bytes": total_bytes,
            "expected": str(expected) if expected else None,
            "resume": resume,
        }
        return BusIngest(self, order)

    def status(self, reference: str) -> IngestStatus:
        """See `NamespaceContent.status`."""
        return _status(self.ask("ingest", "get", reference=reference))

    def ingests(self) -> Iterator[IngestStatus]:
        """See `NamespaceContent.ingests`."""
        return self._pages(self.ask("ingest", "list", limit=PAGE), "ingest", "ingests", _status)

    def abort(self, reference: str) -> None:
        """See `NamespaceContent.abort`."""
        self.ask("ingest", "abort", reference=reference)

    def ask(self, noun: str, verb: str, **body: Any) -> dict[str, Any]:
        """Make one request to the host's distribution service and return its answer."""
        return self._bus.call(self.subject(noun, verb), body)

    def subject(self, noun: str, verb: str) -> str:
        """Return the subject of a request to the host's distribution service."""
        return subjects.host_rpc(self._namespace, self._host, "distribution", noun, verb)

    def _pages(self, page: dict[str, Any], noun: str, field: str, make: Any, **body: Any) -> Iterator[Any]:
        while True:
            yield from map(make, page[field])
            if not page.get("next"):
                return
            page = self.ask(noun, "list", after=page["next"], limit=PAGE, **body)


class BusIngest:
    """A body of `NamespaceIngest`: each `write` is one HTTP request, so hand it large pieces.

    A writer that was silent for so long that the service let go of it takes its ingest up again by itself.
    """

    def __init__(self, content: BusContent, order: Mapping[str, Any]) -> None:
        """Open an ingest; `order` is the body of ``ingest.open``."""
        self._content = content
        self._order = order
        self._opened = content.ask("ingest", "open", **order)
        self._offset = int(self._opened["offset"])
        self._open = True

    @property
    def offset(self) -> int:
        """See `NamespaceIngest.offset`."""
        return self._offset

    def write(self, data: bytes | memoryview) -> None:
        """See `NamespaceIngest.write`."""
        if not data:
            return
        try:
            self._offset = self._send(data)
        except NotFound as error:
            if error.details.get("kind") != "session":
                raise
            self._opened = self._content.ask("ingest", "open", **{**self._order, "resume": True})
            self._offset = self._send(data)

    def _send(self, data: bytes | memoryview) -> int:
        step = f"write {self._order['reference']}"
        return int(append(self._opened["url"], self._offset, bytes(data), step)["offset"])

    def commit(
        self, expected: Digest | None = None, size_bytes: int | None = None, labels: Mapping[str, str] | None = None
    ) -> LabelledBlob:
        """See `NamespaceIngest.commit`."""
        try:
            answer = self._content.ask(
                "ingest",
                "commit",
                session=self._opened["session"],
                expected=str(expected) if expected else None,
                size_bytes=size_bytes,
                labels=dict(labels or {}),
            )
        except InvalidArgument:
            self.abort()  # a request that is not understood never reaches the ingest
            raise
        finally:
            self._open = False
        return _blob(answer)

    def abort(self) -> None:
        """See `NamespaceIngest.abort`."""
        self._end(abort=True)

    def close(self) -> None:
        """See `NamespaceIngest.close`."""
        self._end(abort=False)

    def _end(self, *, abort: bool) -> None:
        if self._open:
            self._open = False
            self._content.ask("ingest", "close", session=self._opened["session"], abort=abort)

    def __enter__(self) -> BusIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Unavailable:
            if error is None:
                raise  # else the first error says what happened; the service lets go of the session by itself


def _read(step: str, url: str, offset: int, end: int, size_bytes: int) -> Iterator[bytes]:
    if offset == end and size_bytes:
        return
    headers = {} if (offset, end) == (0, size_bytes) else {"Range": f"bytes={offset}-{end - 1}"}
    left = end - offset
    for chunk in download(url, headers, step):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise Unavailable(
            f"{step}: the store sends another number of bytes than asked for", service="distribution", outcome="failed"
        )


def _blob(answer: Mapping[str, Any]) -> LabelledBlob:
    return LabelledBlob(
        parse_digest(answer["digest"]),
        answer["size_bytes"],
        ns_of(answer["created_at"]),
        ns_of(answer["updated_at"]),
        answer.get("labels", {}),
    )


def _status(answer: Mapping[str, Any]) -> IngestStatus:
    return IngestStatus(
        answer["reference"],
        answer["offset"],
        answer.get("total_bytes"),
        ns_of(answer["started_at"]),
        ns_of(answer["updated_at"]),
    )
