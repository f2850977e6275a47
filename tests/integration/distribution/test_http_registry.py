"""The HTTP registry against a server that lies, stalls, redirects and asks for tokens."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hythe.digest import parse_digest
from hythe.errors import (
    DataLoss,
    FailedPrecondition,
    HytheError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.hosts import Source, source_of
from scripts.lab.images import Blob, Image, ImageBuilder, Layer
from tests.fakes import faults
from tests.fakes.registry import Answer, FakeRegistry, Fault, Handler
from tests.fixtures.waiting import eventually

NEVER = Cancellation()
MANIFEST = r"/v2/app/manifests/"
BLOB = r"/v2/app/blobs/"


@pytest.fixture
def client() -> Iterator[HttpRegistry]:
    """A client with short limits."""
    made = HttpRegistry(connect_timeout_s=0.5, stall_timeout_s=0.5)
    yield made
    made.close()


@pytest.fixture
def image() -> Image:
    """An image with one layer of some 100 KB."""
    return ImageBuilder().layer(Layer().file("data", bytes(range(256)) * 400), "none").build()


@pytest.fixture
def source(fake_registry: FakeRegistry, image: Image) -> Source:
    """The image as the repository ``app`` of the registry that can misbehave."""
    return source_of(parse_reference(fake_registry.serve(image, "app:1")), False)


@pytest.fixture
def other_registry() -> Iterator[FakeRegistry]:
    """A second registry, on another port."""
    with FakeRegistry() as server:
        yield server


def descriptor(blob: Blob) -> Descriptor:
    """Return the descriptor of a blob."""
    return Descriptor(blob.media_type, parse_digest(blob.digest), len(blob.data))


def fetch(client: HttpRegistry, source: Source, blob: Blob, cancellation: Cancellation = NEVER) -> bytes:
    """Read a blob to its end, unverified as the port gives it."""
    data = bytearray()
    buffer = memoryview(bytearray(65536))
    with client.open(source, descriptor(blob), cancellation) as body:
        while count := body.readinto(buffer):
            data += buffer[:count]
    return bytes(data)


def test_tag_is_resolved_by_head_and_read_by_get(client: HttpRegistry, source: Source, image: Image) -> None:
    """HEAD gives what the tag points to, GET its bytes, and a blob comes as it is."""
    assert client.head(source, "1", NEVER) == descriptor(image.manifest)
    document = client.manifest(source, "1", NEVER)
    assert (document.raw, document.media_type) == (image.manifest.data, image.manifest.media_type)
    assert fetch(client, source, image.layers[0]) == image.layers[0].data


def test_manifest_can_be_opened_like_a_blob(client: HttpRegistry, source: Source, image: Image) -> None:
    """A descriptor of a manifest leads to the manifests of the registry."""
    assert fetch(client, source, image.manifest) == image.manifest.data


def test_requests_of_one_pull_share_a_connection(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """What is read to its end leaves its connection to the next; the bytes are asked for unencoded."""
    ports: set[int] = set()

    def note(handler: Handler, answer: Answer) -> Answer:
        ports.add(handler.client_address[1])
        return answer

    fake_registry.break_at(".", note)
    client.head(source, "1", NEVER)
    client.manifest(source, "1", NEVER)
    for _ in range(3):
        fetch(client, source, image.layers[0])
    assert len(ports) == 1
    assert {request.headers["accept-encoding"] for request in fake_registry.requests} == {"identity"}
    assert "application/vnd.oci.image.index.v1+json" in fake_registry.requests[0].headers["accept"]
    assert "authorization" not in fake_registry.requests[-1].headers


def test_kept_connection_that_the_server_closed_is_replaced(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A server that closes between two requests costs nothing but a new connection."""
    client.head(source, "1", NEVER)
    fake_registry.break_at(MANIFEST, faults.hang_up(), times=1)
    assert client.head(source, "1", NEVER) == descriptor(image.manifest)


def test_head_that_says_too_little_leaves_it_to_get(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry
) -> None:
    """Without digest, size or a known type, or with an error, HEAD says nothing."""
    for status in (404, 405, 500):
        fake_registry.break_at(MANIFEST, faults.status(status), times=1)
        assert client.head(source, "1", NEVER) is None
    fake_registry.break_at(MANIFEST, faults.status(200, b"x", Content_Type="text/html"), times=1)
    assert client.head(source, "1", NEVER) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidArgument),
        (403, PermissionDenied),
        (404, NotFound),
        (429, ResourceExhausted),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_refusal_carries_the_registrys_own_text(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry, status: int, error: type[HytheError]
) -> None:
    """What the registry says about its refusal is the cause, without anything that could control a terminal."""
    body = b'{"errors": [{"code": "DENIED", "message": "not\\u001b[31m for you"}]}'
    fake_registry.break_at(MANIFEST, faults.status(status, body))
    with pytest.raises(error) as raised:
        client.manifest(source, "1", NEVER)
    assert raised.value.cause == "DENIED: not [31m for you"
    assert raised.value.message.startswith(f"resolve {source}:1: http://127.0.0.1:")


def test_unknown_image_is_not_found_of_kind_image(client: HttpRegistry, source: Source) -> None:
    """A tag that isn't there, and a blob that isn't there, say which of both they are."""
    with pytest.raises(NotFound) as raised:
        client.manifest(source, "nowhere", NEVER)
    assert raised.value.details == {"kind": "image"}
    assert raised.value.cause == "MANIFEST_UNKNOWN: not here"
    assert raised.value.next_step
    with pytest.raises(NotFound) as raised:
        fetch(client, source, Blob(b"nowhere", "x/y"))
    assert raised.value.details == {"kind": "blob"}


def test_refusal_with_a_long_or_broken_text_is_cut(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry
) -> None:
    """A refusal of many megabytes costs neither memory nor a screenful."""
    for body in (b"<html>" * 1_000_000, b'{"errors": 5}', b'{"errors": [5]}', b"[" * 60_000):
        fake_registry.break_at(MANIFEST, faults.status(400, body), times=1)
        with pytest.raises(InvalidArgument) as raised:
            client.manifest(source, "1", NEVER)
        assert raised.value.cause == "HTTP 400 Bad Request"


@pytest.mark.parametrize(
    "fault", [faults.other_bytes(), faults.lying_digest_header(), faults.longer(), faults.status(200, b"{}")]
)
def test_manifest_that_is_not_its_digest_is_data_loss(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry, fault: Fault
) -> None:
    """A manifest asked for by digest is believed only if its bytes have it."""
    fake_registry.break_at(MANIFEST, fault)
    with pytest.raises(DataLoss):
        client.manifest(source, image.manifest.digest, NEVER)


@pytest.mark.parametrize("fault", [faults.other_bytes(), faults.lying_digest_header()])
def test_tag_whose_digest_header_lies_is_data_loss(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry, fault: Fault
) -> None:
    """Docker-Content-Digest must be the digest of the bytes."""
    fake_registry.break_at(MANIFEST, fault)
    with pytest.raises(DataLoss):
        client.manifest(source, "1", NEVER)


def test_consistent_lie_about_a_digest_is_data_loss(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """Other content with a matching header is still not what was asked for."""
    fake_registry.break_at(MANIFEST, faults.other_content(b"{}"))
    with pytest.raises(DataLoss):
        client.manifest(source, image.manifest.digest, NEVER)


@pytest.mark.parametrize("fault", [faults.longer(), faults.shorter(), faults.lying_digest_header()])
def test_blob_offered_with_another_size_or_digest_is_refused_before_its_first_byte(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry, fault: Fault
) -> None:
    """What the headers betray needs no download."""
    fake_registry.break_at(BLOB, fault)
    with pytest.raises(DataLoss):
        client.open(source, descriptor(image.layers[0]), NEVER)


def test_manifest_offered_as_another_type_is_refused(client: HttpRegistry, source: Source, image: Image) -> None:
    """The type in the header must be the descriptor's."""
    wanted = Descriptor(
        "application/vnd.docker.distribution.manifest.v2+json",
        parse_digest(image.manifest.digest),
        len(image.manifest.data),
    )
    with pytest.raises(InvalidArgument):
        client.open(source, wanted, NEVER)


def test_oversized_manifest_is_refused(client: HttpRegistry, source: Source, fake_registry: FakeRegistry) -> None:
    """No more than 4 MiB of a manifest are read."""
    fake_registry.break_at(MANIFEST, faults.longer(5 << 20))
    with pytest.raises(InvalidArgument) as raised:
        client.manifest(source, "1", NEVER)
    assert "4194304" in raised.value.message


def test_encoded_bytes_are_refused(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A transfer encoding that nobody asked for would break every digest."""
    fake_registry.break_at(BLOB, faults.status(200, image.layers[0].data, Content_Encoding="gzip"))
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, image.layers[0])
    assert "gzip" in raised.value.message


def test_truncated_blob_is_unavailable_and_its_connection_is_given_up(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A connection that breaks says after how many bytes, and the next request is not answered from its ruins."""
    fake_registry.break_at(BLOB, faults.truncated(1000), times=1)
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, image.layers[0])
    assert "broke off after 1000 bytes" in raised.value.message
    assert fetch(client, source, image.layers[0]) == image.layers[0].data


def test_stalled_blob_is_unavailable_after_the_stall_time(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """Silence in the middle of a blob ends the wait, with what had come."""
    fake_registry.break_at(BLOB, faults.stalled(1000))
    started = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, image.layers[0])
    assert "stalled after 1000 bytes" in raised.value.message
    assert 0.4 < time.monotonic() - started < 3


def test_slow_blob_that_never_falls_silent_arrives(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """Only silence is a failure, not a long total time."""
    fake_registry.break_at(BLOB, faults.paced(20_000, 0.15))
    assert fetch(client, source, image.layers[0]) == image.layers[0].data


def test_bytes_of_a_slow_blob_are_given_as_they_come(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A reader sees the first bytes at once, however large its buffer is."""
    fake_registry.break_at(BLOB, faults.stalled(1000))
    with client.open(source, descriptor(image.layers[0]), NEVER) as body:
        assert 0 < body.readinto(memoryview(bytearray(1 << 20))) <= 1000


@pytest.mark.parametrize("where", ["answer", "body"])
def test_cancelled_work_wakes_at_once(source: Source, image: Image, fake_registry: FakeRegistry, where: str) -> None:
    """A thread that waits for a silent registry returns when its work is cancelled, long before the stall time."""
    patient = HttpRegistry(stall_timeout_s=30)
    came = threading.Event()

    def note_and_stall(handler: Handler, answer: Answer) -> None:
        came.set()
        if where == "answer":
            handler.server.registry.released.wait()
        else:
            faults.stalled(10)(handler, answer)

    fake_registry.break_at(BLOB, note_and_stall)
    cancellation = Cancellation()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            fetch(patient, source, image.layers[0], cancellation)
        except (HytheError, Cancelled) as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert came.wait(5)
    cancellation.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert ended
    patient.close()


def test_unreachable_registry_is_unavailable_within_the_connect_time(client: HttpRegistry) -> None:
    """Nobody listens, a host that swallows packets, and a name that doesn't exist are told apart in the cause."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Unavailable) as refused:
            client.head(Source(f"127.0.0.1:{port}", "app"), "1", NEVER)
    assert refused.value.cause == "Connection refused"
    assert refused.value.details["kind"] == "registry"
    assert f"127.0.0.1:{port}" in refused.value.message
    assert refused.value.next_step
    with pytest.raises(Unavailable) as unknown:
        client.head(Source("nowhere.invalid", "app"), "1", NEVER)
    assert "nowhere.invalid" in unknown.value.message


def test_host_that_accepts_nothing_is_given_up_within_the_connect_time(client: HttpRegistry) -> None:
    """A full backlog stands for a host that swallows packets."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        started = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            client.head(Source(f"127.0.0.1:{full.getsockname()[1]}", "app"), "1", NEVER)
    assert raised.value.cause == "timed out"
    assert time.monotonic() - started < 2


def test_server_that_is_no_registry_is_unavailable(client: HttpRegistry) -> None:
    """Something that doesn't speak HTTP says so in the cause."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(Unavailable) as raised:
            client.manifest(Source(f"127.0.0.1:{server.getsockname()[1]}", "app"), "1", NEVER)
        thread.join()
    assert raised.value.cause == "the answer is not HTTP"


def test_redirected_blob_comes_from_elsewhere_without_the_token(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry, other_registry: FakeRegistry
) -> None:
    """A redirect to another host is followed, and the token stays behind (CVE-2020-15157)."""
    other_registry.serve(image, "app:1")
    layer = image.layers[0]
    fake_registry.break_at(MANIFEST, faults.bearer())
    client.manifest(source, "1", NEVER)
    fake_registry.break_at(BLOB, faults.redirect(f"http://{other_registry.address}/v2/app/blobs/{layer.digest}?sig=x"))
    assert fetch(client, source, layer) == layer.data
    assert fake_registry.requests[-1].headers["authorization"].startswith("Bearer good:")
    assert other_registry.requests
    assert all("authorization" not in request.headers for request in other_registry.requests)
    assert other_registry.requests[-1].path.endswith("?sig=x")


def test_stranger_that_asks_for_credentials_after_a_redirect_gets_none(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry, other_registry: FakeRegistry
) -> None:
    """A 401 from where a redirect led is a refusal, not a reason to fetch a token for it."""
    other_registry.serve(image, "app:1")
    other_registry.break_at(BLOB, faults.bearer())
    layer = image.layers[0]
    fake_registry.break_at(BLOB, faults.redirect(f"http://{other_registry.address}/v2/app/blobs/{layer.digest}"))
    with pytest.raises(Unauthenticated):
        fetch(client, source, layer)
    assert not any("/token" in request.path for request in [*fake_registry.requests, *other_registry.requests])


def test_endless_redirect_is_given_up(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A redirect to itself ends after five."""
    fake_registry.break_at(BLOB, faults.redirect(f"/v2/app/blobs/{image.layers[0].digest}"))
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, image.layers[0])
    assert "redirects" in raised.value.message
    assert len(fake_registry.requests) == 6


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://0.0.0.0/"]
)
def test_redirect_into_the_hosts_own_network_is_refused(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry, location: str
) -> None:
    """A registry cannot make this host ask its cloud's metadata service."""
    fake_registry.break_at(BLOB, faults.redirect(location))
    with pytest.raises(PermissionDenied) as raised:
        fetch(client, source, image.layers[0])
    assert raised.value.message.startswith(f"fetch {image.layers[0].digest} from {source}: connect to http://")
    assert "hosts.toml" in raised.value.next_step


def test_anonymous_token_is_fetched_once_and_used_again(
    client: HttpRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A registry that wants a token gets one for pulling this repository, kept for the next requests."""
    fake_registry.break_at("/v2/", faults.bearer())
    assert client.head(source, "1", NEVER) is not None
    assert fetch(client, source, image.layers[0]) == image.layers[0].data
    tokens = [request.path for request in fake_registry.requests if "/token" in request.path]
    assert len(tokens) == 1
    assert "scope=repository%3Aapp%3Apull" in tokens[0]
    assert "authorization" not in fake_registry.requests[1].headers


def test_registry_that_refuses_every_token_is_unauthenticated(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry
) -> None:
    """A 401 that a token doesn't cure ends after one try."""
    fake_registry.break_at("/v2/", faults.bearer(never=True))
    with pytest.raises(Unauthenticated) as raised:
        client.manifest(source, "1", NEVER)
    assert raised.value.cause == "UNAUTHORIZED: who are you"
    assert len(fake_registry.requests) == 3


def test_token_server_elsewhere_is_never_asked(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry, other_registry: FakeRegistry
) -> None:
    """A realm without TLS on another host is refused without a connection to it."""
    port = other_registry.address.rpartition(":")[2]
    challenge = f'Bearer realm="http://localhost:{port}/token"'
    fake_registry.break_at("/v2/", faults.status(401, WWW_Authenticate=challenge))
    with pytest.raises(PermissionDenied):
        client.manifest(source, "1", NEVER)
    assert other_registry.requests == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"token": 5}', b'{"token": "a b"}', b'{"token": "a\\r\\nX: y"}', b'{"token":"\\u00e9"}'],
)
def test_token_that_is_none_is_unavailable(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry, body: bytes
) -> None:
    """What a token server sends in place of a token never gets into a header."""
    fake_registry.break_at("/v2/", faults.bearer())
    fake_registry.break_at("/token", faults.status(200, body))
    with pytest.raises(Unavailable):
        client.manifest(source, "1", NEVER)


class _Tls:
    """A TLS server on loopback that serves one manifest, with a certificate that nobody knows."""

    def __init__(self, directory: Path, data: bytes) -> None:
        self.certificate = directory / "cert.pem"
        key = directory / "key.pem"
        command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {self.certificate}"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run([*command.split(), *names], check=True, capture_output=True)

        class Answering(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # refusals are the test
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serve_tls(tmp_path: Path) -> Iterator[Callable[[bytes], _Tls]]:
    """A function that starts a TLS server with one manifest."""
    servers: list[_Tls] = []

    def start(data: bytes) -> _Tls:
        servers.append(_Tls(tmp_path, data))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_plain_http_to_a_tls_server_is_unavailable(client: HttpRegistry, serve_tls: Callable[[bytes], _Tls]) -> None:
    """A server that speaks TLS where plain HTTP is used fails as unreachable, and quickly."""
    server = serve_tls(b"{}")
    with pytest.raises(Unavailable):
        client.manifest(Source(f"localhost:{server.port}", "app"), "1", NEVER)


def test_redirect_to_tls_is_verified(
    serve_tls: Callable[[bytes], _Tls], fake_registry: FakeRegistry, source: Source, image: Image
) -> None:
    """A certificate that this host doesn't trust is refused; one that it trusts is not."""
    server = serve_tls(image.manifest.data)
    fake_registry.break_at("/manifests/1", faults.redirect(f"https://localhost:{server.port}/x"))
    distrustful = HttpRegistry(tls=ssl.create_default_context())
    with pytest.raises(FailedPrecondition) as raised:
        distrustful.manifest(source, "1", NEVER)
    assert "certificate" in raised.value.message
    trusting = HttpRegistry(tls=ssl.create_default_context(cafile=str(server.certificate)))
    assert trusting.manifest(source, "1", NEVER).raw == image.manifest.data
    distrustful.close()
    trusting.close()


def test_tls_to_a_plain_server_says_how_to_go_on(fake_registry: FakeRegistry, source: Source) -> None:
    """When TLS meets plain HTTP, the next step names ``--plain-http``."""
    port = fake_registry.address.rpartition(":")[2]
    fake_registry.break_at("/manifests/1", faults.redirect(f"https://localhost:{port}/x"))
    client = HttpRegistry()
    with pytest.raises(Unavailable) as raised:
        client.manifest(source, "1", NEVER)
    assert "--plain-http" in raised.value.next_step
    client.close()


def test_idle_connections_are_closed_with_the_client(source: Source, fake_registry: FakeRegistry) -> None:
    """A closed client leaves no socket open."""
    client = HttpRegistry()
    client.head(source, "1", NEVER)
    before = _sockets()
    client.close()
    eventually(lambda: _sockets() < before, what="the idle connection is closed")


def _sockets() -> int:
    return sum("socket:" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
