"""Archives over HTTP: whole or an error, whatever the other side does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hythe.client.transfer import download, upload
from hythe.errors import DataLoss, HytheError, InvalidArgument, NotFound, Unavailable
from hythe.wire.images import ImageImported
from tests.fakes.archive_server import ArchiveServer

DONE = ImageImported(format="oci", images=[], blobs=3, size_bytes=5)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    """A server that takes what comes."""
    made = ArchiveServer()
    made.answers = DONE
    yield made
    made.close()


def _raw_server(answer: bytes) -> tuple[str, threading.Thread]:
    """Answer one request with these bytes and close."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(1 << 16)
        connection.sendall(answer)
        connection.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/x", thread


def test_upload_sends_all_chunks_and_returns_the_answer(server: ArchiveServer) -> None:
    """An archive arrives byte for byte, with the trace's context; empty pieces do not end it."""
    answer = upload(server.url, [b"abc", b"", b"d" * 300_000], {"traceparent": "00-x"})
    assert answer == DONE.model_dump(mode="json")
    assert server.received == [b"abc" + b"d" * 300_000]
    assert server.headers["traceparent"] == "00-x"


def test_refusal_in_the_middle_of_an_upload_is_the_error(server: ArchiveServer) -> None:
    """Why an archive is refused is told at once, not after gigabytes."""
    server.answers = InvalidArgument("read the archive: no tar")
    server.refuses_early = True
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1
            yield b"x" * 100_000

    with pytest.raises(InvalidArgument, match="no tar"):
        upload(server.url, chunks(), {})
    assert sent < 10_000


def test_service_that_closes_without_an_answer_leaves_the_outcome_unknown(server: ArchiveServer) -> None:
    """Whether the archive was taken is not claimed to be known; the ticket in the address is not shown."""
    server.answers = None
    with pytest.raises(Unavailable) as caught:
        upload(server.url, [b"abc"], {})
    assert caught.value.outcome == "unknown"
    assert "t1cket" not in caught.value.whole + caught.value.next_step


def test_source_that_fails_leaves_the_body_without_its_end(server: ArchiveServer) -> None:
    """Half an archive is never taken for a whole one."""

    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise DataLoss("read: it became shorter")

    with pytest.raises(DataLoss, match="shorter"):
        upload(server.url, chunks(), {})
    assert server.received == []


@pytest.mark.parametrize("body", [b"[]", b"no json"])
def test_answer_that_is_no_object_is_data_loss(body: bytes) -> None:
    """What cannot be read is not mistaken for success."""
    url, thread = _raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    with pytest.raises(DataLoss):
        upload(url, [b"x"], {})
    thread.join()


def test_download_yields_the_whole_body(server: ArchiveServer) -> None:
    """What the service gives arrives byte for byte."""
    server.gives = bytes(range(256)) * 2000
    assert b"".join(download(server.url, {"traceparent": "00-x"})) == server.gives
    assert server.headers["traceparent"] == "00-x"


def test_download_that_is_refused_raises_the_services_error(server: ArchiveServer) -> None:
    """The service's own words reach the user."""
    server.gives = NotFound("open the transfer: this ticket is spent")
    with pytest.raises(NotFound, match="spent"):
        list(download(server.url, {}))


def test_download_that_breaks_off_is_an_error_at_its_end(server: ArchiveServer) -> None:
    """A body without its last chunk is not whole, however much of it came."""
    server.gives, server.ending = b"a" * 200_000, "broken"
    with pytest.raises(Unavailable, match="broke before the end"):
        list(download(server.url, {}))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\nbody without a length",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_download_from_a_strange_server_is_an_error(answer: bytes) -> None:
    """Whatever is at the other end, half an archive is never taken for a whole one."""
    url, thread = _raw_server(answer)
    with pytest.raises(Unavailable):
        list(download(url, {}))
    thread.join()


@pytest.mark.parametrize("url", ["ftp://h/x", "file:///etc/passwd", "http:///x", ""])
def test_address_that_is_no_http_is_refused(url: str) -> None:
    """Only what a service may name is asked."""
    with pytest.raises(DataLoss):
        list(download(url, {}))


def test_nobody_at_the_address_is_unavailable() -> None:
    """Nothing was done, and the error says by whom."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HytheError) as caught:
        upload(f"http://127.0.0.1:{port}/x", [b""], {})
    assert (caught.value.code, caught.value.service, caught.value.outcome) == (
        "Unavailable",
        "distribution",
        "not started",
    )
