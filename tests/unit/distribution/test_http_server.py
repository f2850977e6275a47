"""Blobs over HTTP: ranges, tickets, downloads in flight, ingests, and clients that misbehave."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import DataLoss, OutOfRange, Unavailable
from hythe.ports.content import Content
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.http.blobs import BlobRoutes
from hythe_distribution.adapters.http.request import Request
from hythe_distribution.adapters.http.server import MAX_CONNECTIONS, HttpServer
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.ingest_sessions import IngestSessions
from hythe_distribution.namespace_store import Library
from hythe_distribution.tickets import Tickets
from tests.fixtures.waiting import eventually

DATA = bytes(range(256)) * 1000
DIGEST = digest_of(DATA)


class OneFlight:
    """A download in progress of one blob, whose bytes a test lets come.

    Attributes:
        fails: error that ends it.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fails: DataLoss | None = None
        self._here = threading.Semaphore(0)

    def let_come(self, pieces: int) -> None:
        """Let so many pieces of 1000 bytes come."""
        self._here.release(pieces)

    def follow(self, digest: Digest, offset: int = 0) -> Reader | None:
        """See `InFlight.follow`."""
        return Reader(self, offset) if digest == digest_of(self.data) else None

    def wait(self) -> None:
        """Wait for the next piece."""
        assert self._here.acquire(timeout=10)


class Reader:
    """A body of `hythe_distribution.blob_source.Follower`."""

    def __init__(self, flight: OneFlight, offset: int) -> None:
        self.total_bytes = len(flight.data)
        self._flight = flight
        self._offset = offset

    def read(self, most_bytes: int) -> bytes:
        """Return the next piece."""
        if self._offset == self.total_bytes:
            if self._flight.fails:
                raise self._flight.fails
            return b""
        self._flight.wait()
        piece = self._flight.data[self._offset : self._offset + min(most_bytes, 1000)]
        self._offset += len(piece)
        return piece

    def close(self) -> None:
        """Nobody waits any more."""


class Served:
    """A server over a store, and a client for it."""

    def __init__(self, content: Content, flight: OneFlight) -> None:
        self.content = content
        self.flight = flight
        self.sessions = IngestSessions()
        self.namespace = Library(content, MemoryRecords()).of("default")
        self.server = HttpServer("127.0.0.1:0", Tickets(), "h1")
        BlobRoutes(content, flight, self.sessions).register(self.server)
        self.server.route("POST", "echo", self._echo)
        self.server.start()

    def _echo(self, request: Request) -> None:
        request.answer(200, b"".join(request.body.chunks()))

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        split = urlsplit(self.server.url)
        return http.client.HTTPConnection(split.hostname or "", split.port, timeout=10)

    def get(self, digest: Digest = DIGEST, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Ask for a blob with a ticket and return status, headers and body."""
        url = self.server.address("GET", "blobs", str(digest))
        connection = self.connect()
        try:
            connection.request(method, url.removeprefix(self.server.url), headers=headers)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def patch(self, url: str, offset: int, data: bytes) -> tuple[int, dict[str, object]]:
        """Write a piece of an ingest and return status and answer."""
        connection = self.connect()
        try:
            span = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
            connection.request("PATCH", url.removeprefix(self.server.url), data, span)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture(params=["directory", "memory"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A server over each body with a file and without, holding `DATA`."""
    content: Content = DirectoryContent(tmp_path / "content") if request.param == "directory" else MemoryContent()
    with content.open_ingest("data") as ingest:
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))
    made = Served(content, OneFlight(b"in flight" * 1000))
    yield made
    made.server.close()


def test_blob_is_served_whole(served: Served) -> None:
    """A reader with a ticket gets the bytes and can check them."""
    status, headers, body = served.get()
    assert (status, body) == (200, DATA)
    assert headers["content-length"] == str(len(DATA))
    assert headers["accept-ranges"] == "bytes"
    assert headers["docker-content-digest"] == str(DIGEST)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=255990-", 255_990, 255_999),
        ("bytes=5-99999999", 5, 255_999),
    ],
)
def test_range_is_served_as_asked(served: Served, asked: str, first: int, last: int) -> None:
    """A broken transfer goes on where it broke."""
    status, headers, body = served.get(Range=asked)
    assert (status, body) == (206, DATA[first : last + 1])
    assert headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=9-3", "bytes=99999999999-"])
def test_range_beyond_the_end_is_refused(served: Served, asked: str) -> None:
    """There is nothing to serve beyond the end."""
    status, _, body = served.get(Range=asked)
    assert status == OutOfRange.number
    assert json.loads(body)["code"] == "OutOfRange"


@pytest.mark.parametrize("asked", ["bytes=-5", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b"])
def test_range_that_is_not_one_range_of_bytes_is_passed_over(served: Served, asked: str) -> None:
    """What cannot be served as a range is served whole, as HTTP allows."""
    assert served.get(Range=asked)[0] == 200


def test_head_tells_the_size_alone(served: Served) -> None:
    """Who only asks gets no bytes."""
    status, headers, body = served.get(method="HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(DATA)))


def test_unknown_blob_is_not_found(served: Served) -> None:
    """A ticket makes no blob."""
    status, _, body = served.get(digest_of(b"nothing"))
    assert (status, json.loads(body)["code"]) == (404, "NotFound")


@pytest.mark.parametrize("query", ["", "?ticket=", "?ticket=forged", "?other=1"])
def test_request_without_a_good_ticket_is_refused(served: Served, query: str) -> None:
    """Whoever reaches the port gets nothing by it: containers on the host's network do reach it."""
    connection = served.connect()
    connection.request("GET", f"/v1/blobs/{DIGEST}{query}")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (403, "PermissionDenied")
    connection.close()


def test_reader_follows_a_download_in_flight(served: Served) -> None:
    """Reading begins before the download is done, and ends well only when it does."""
    flight = served.flight
    url = served.server.address("GET", "blobs", str(digest_of(flight.data)))
    connection = served.connect()
    flight.let_come(3)
    connection.request("GET", url.removeprefix(served.server.url))
    response = connection.getresponse()
    assert response.headers["Content-Length"] == str(len(flight.data))
    assert response.read(1500) == flight.data[:1500]
    flight.let_come(6)
    assert response.read() == flight.data[1500:]
    connection.close()


def test_failed_download_breaks_off_before_its_end(served: Served) -> None:
    """A reader never takes the bytes of a failed download for the blob."""
    flight = served.flight
    flight.fails = DataLoss("fetch: other bytes than promised")
    url = served.server.address("GET", "blobs", str(digest_of(flight.data)))
    connection = served.connect()
    flight.let_come(100)
    connection.request("GET", url.removeprefix(served.server.url))
    with pytest.raises(http.client.IncompleteRead) as raised:
        connection.getresponse().read()
    assert len(raised.value.partial) < len(flight.data)
    connection.close()


def test_ingest_is_written_in_pieces_and_committed(served: Served) -> None:
    """Bytes come in over HTTP, piece by piece, and become a blob."""
    session, offset = served.sessions.open(
        served.namespace, "default", "mine", total_bytes=None, expected=None, resume=False
    )
    assert offset == 0
    url = served.server.address("PATCH", "ingests", session, repeatable=True)
    assert served.patch(url, 0, b"one ") == (200, {"offset": 4})
    assert served.patch(url, 4, b"two") == (200, {"offset": 7})
    blob = served.sessions.commit("default", session, digest_of(b"one two"), 7, {"a": "b"})
    assert (blob.size_bytes, blob.labels) == (7, {"a": "b"})


def test_piece_at_another_offset_is_out_of_range(served: Served) -> None:
    """A piece that was sent twice is never written twice."""
    session, _ = served.sessions.open(
        served.namespace, "default", "mine", total_bytes=None, expected=None, resume=False
    )
    url = served.server.address("PATCH", "ingests", session, repeatable=True)
    served.patch(url, 0, b"one ")
    status, answer = served.patch(url, 0, b"one ")
    assert (status, answer["code"], answer["details"]) == (OutOfRange.number, "OutOfRange", {"offset": "4"})


def test_client_that_breaks_off_leaves_what_it_sent(served: Served) -> None:
    """Half a piece counts by its bytes, so the writer goes on from there."""
    session, _ = served.sessions.open(
        served.namespace, "default", "mine", total_bytes=None, expected=None, resume=False
    )
    url = served.server.address("PATCH", "ingests", session, repeatable=True)
    split = urlsplit(url)
    with socket.create_connection((split.hostname, split.port)) as sock:
        head = f"PATCH {split.path}?{split.query} HTTP/1.1\r\nHost: x\r\nContent-Range: bytes 0-99/*\r\n"
        sock.sendall(head.encode() + b"Content-Length: 100\r\n\r\nhalf")
    eventually(lambda: served.namespace.status("mine").offset == 4)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"-1\r\n", b"5\r\nabcdeXX", b"ffffffffffffffffffff\r\n", b"5;" + b"x" * 2000],
)
def test_body_that_is_not_in_chunks_as_it_says_is_refused(served: Served, body: bytes) -> None:
    """A body whose framing lies ends its request and nothing else."""
    url = urlsplit(served.server.address("POST", "echo", "x"))
    with socket.create_connection((url.hostname, url.port)) as sock:
        sock.settimeout(10)
        sock.sendall(
            f"POST {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body
        )
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 503"))
    assert served.get()[0] == 200


def test_body_in_chunks_is_read_to_its_end(served: Served) -> None:
    """Archives come in chunks, for nobody knows how long they will be."""
    url = served.server.address("POST", "echo", "x").removeprefix(served.server.url)
    connection = served.connect()
    connection.request("POST", url, iter([b"a" * 70_000, b"", b"b"]), encode_chunked=True)
    assert connection.getresponse().read() == b"a" * 70_000 + b"b"
    url = served.server.address("POST", "echo", "y").removeprefix(served.server.url)
    connection.request("POST", url, b"again")
    assert connection.getresponse().read() == b"again"
    connection.close()


def test_body_without_a_length_is_refused(served: Served) -> None:
    """A body of unknown length could go on for ever."""
    url = urlsplit(served.server.address("POST", "echo", "x"))
    with socket.create_connection((url.hostname, url.port)) as sock:
        sock.sendall(f"POST {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked",
        b"Content-Length: 4\r\nContent-Length: 2",
        b"Content-Length: +4",
        b"Content-Length: 4, 4",
        b"Content-Length:\r\n 4",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ],
)
def test_request_whose_end_is_in_doubt_is_refused_and_its_connection_closed(served: Served, framing: bytes) -> None:
    """Nothing can be hidden in a body that one reader ends here and another there."""
    url = served.server.address("POST", "echo", "x").removeprefix(served.server.url)
    said = converse(
        served, b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n4\r\nabcd\r\n0\r\n\r\n" % (url.encode(), framing)
    )
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("size", [b"Content-Length: %d", b"Transfer-Encoding: chunked"])
def test_body_that_nobody_reads_is_not_taken_for_the_next_request(served: Served, size: bytes) -> None:
    """What comes behind a GET as its body is never answered as a request of its own."""
    url = served.server.address("GET", "blobs", str(DIGEST)).removeprefix(served.server.url)
    hidden = b"GET /v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    size = size.replace(b"%d", str(len(hidden)).encode())
    said = converse(served, b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s" % (url.encode(), size, hidden))
    assert said.endswith(DATA)


@pytest.mark.parametrize(
    "target", [b"http://[/", b"/v1/blobs/a?" + b"&".join([b"a=b"] * 20), b"*", b"/v1/blobs/\xff?ticket=%ff", b"/v1"]
)
def test_target_that_is_nonsense_is_refused_without_a_trace_in_the_log(
    served: Served, target: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has no ticket fills no log."""
    said = converse(served, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 404"))
    assert caplog.text == ""


def converse(served: Served, data: bytes) -> bytes:
    """Send bytes as they are and return all that comes back until the server closes."""
    url = urlsplit(served.server.url)
    with socket.create_connection((url.hostname, url.port), timeout=10) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def test_silent_connections_keep_nobody_out(served: Served) -> None:
    """While others hold every place and say nothing, or next to nothing, a request with a ticket is served at once."""
    split = urlsplit(served.server.url)
    before = threading.active_count()
    greedy = [socket.create_connection((split.hostname, split.port)) for _ in range(MAX_CONNECTIONS + 20)]
    for sock in greedy[::2]:
        sock.sendall(b"GET / HTTP/1.1\r\nX: ")
    eventually(lambda: threading.active_count() >= before + MAX_CONNECTIONS)
    began = time.monotonic()
    assert served.get()[0] == 200
    assert time.monotonic() - began < 3
    for sock in greedy:
        sock.close()


def test_busy_connections_are_not_closed_for_others(served: Served) -> None:
    """A download that goes on is not given up when many connections come."""
    url = served.server.address("GET", "blobs", str(digest_of(served.flight.data))).removeprefix(served.server.url)
    connection = served.connect()
    served.flight.let_come(2)
    connection.request("GET", url)
    response = connection.getresponse()
    assert len(response.read(1000)) == 1000
    split = urlsplit(served.server.url)
    greedy = [socket.create_connection((split.hostname, split.port)) for _ in range(MAX_CONNECTIONS + 20)]
    assert served.get()[0] == 200
    served.flight.let_come(100)
    assert len(response.read()) == len(served.flight.data) - 1000
    connection.close()
    for sock in greedy:
        sock.close()


def test_connections_beyond_the_limit_wait_their_turn(served: Served) -> None:
    """A client that opens many connections costs a bounded number of threads, and others are served once it goes."""
    split = urlsplit(served.server.url)
    before = threading.active_count()
    greedy = [socket.create_connection((split.hostname, split.port)) for _ in range(MAX_CONNECTIONS + 20)]
    eventually(lambda: threading.active_count() >= before + MAX_CONNECTIONS)
    assert threading.active_count() <= before + MAX_CONNECTIONS + 1
    for sock in greedy:
        sock.close()
    assert served.get()[0] == 200


def test_session_that_is_not_heard_of_lets_go_of_its_ingest() -> None:
    """A writer that vanished does not keep its ingest from others, and its bytes are kept."""
    now = [0.0]
    sessions = IngestSessions(lambda: now[0])
    namespace = Library(MemoryContent(), MemoryRecords()).of("default")
    session, _ = sessions.open(namespace, "default", "mine", total_bytes=None, expected=None, resume=False)
    sessions.write(session, 0, iter([b"some"]))
    with pytest.raises(Unavailable):
        namespace.open_ingest("mine")
    now[0] = 11.0
    sessions.sweep()
    with namespace.open_ingest("mine", resume=True) as ingest:
        assert ingest.offset == 4


def test_ingest_of_a_writer_that_vanished_can_be_removed() -> None:
    """What a killed writer has left is not there for ever, and one that writes is not disturbed."""
    now = [0.0]
    sessions = IngestSessions(lambda: now[0])
    namespace = Library(MemoryContent(), MemoryRecords()).of("default")
    session, _ = sessions.open(namespace, "default", "mine", total_bytes=None, expected=None, resume=False)
    sessions.write(session, 0, iter([b"some"]))
    with pytest.raises(Unavailable):
        sessions.abort(namespace, "mine")
    now[0] = 11.0
    sessions.abort(namespace, "mine")
    assert list(namespace.ingests()) == []
