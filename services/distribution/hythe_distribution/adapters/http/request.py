"""One HTTP request as its handler sees it: what is asked, a bounded body to read, and ways to answer."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler

from hythe.errors import InvalidArgument, OutOfRange, Unavailable

CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(?:\d{1,18})/(?:\d{1,18}|\*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n]*)?\r?\n")
_MAX_LINE_BYTES = 1024


class Request:
    """A request whose ticket was checked. Answer exactly once; `answered` tells whether the status has been sent."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        """Wrap the connection."""
        self.name = ""
        self.answered = False
        self._handler = handler
        self._body: BodyReader | None = None

    def check_framing(self) -> None:
        """Return if it is beyond doubt where the request ends.

        Raises:
            InvalidArgument: it says how long its body is in two ways, or in one that is not understood.

        Spec: RFC 9112, 6.1 and 6.3.
        """
        headers = self._handler.headers
        lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
        if len(lengths) + len(codings) > 1 or not all(map(_is_length, lengths)) or not all(map(_is_chunked, codings)):
            raise InvalidArgument("read request: what it says of the length of its body is no single length")

    def header(self, name: str) -> str:
        """Return a header's value, empty if it isn't there."""
        return self._handler.headers.get(name, "")

    def range(self, size_bytes: int) -> tuple[int, int, bool]:
        """Return the range asked for as offset and end, and whether one was asked for at all.

        What is not a single range of bytes is passed over, as RFC 9110 allows.

        Raises:
            OutOfRange: it begins beyond the end.
        """
        match = _RANGE.fullmatch(self.header("Range").strip())
        if match is None:
            return 0, size_bytes, False
        offset = int(match[1])
        end = min(size_bytes, int(match[2]) + 1) if match[2] else size_bytes
        if offset >= size_bytes or end <= offset:
            raise OutOfRange(f"read from {offset}: the blob has {size_bytes} bytes")
        return offset, end, True

    def content_offset(self) -> int:
        """Return the offset that ``Content-Range`` names for the body.

        Raises:
            InvalidArgument: it names none.
        """
        match = _CONTENT_RANGE.fullmatch(self.header("Content-Range").strip())
        if match is None:
            raise InvalidArgument("read request: Content-Range must be `bytes FIRST-LAST/*`")
        return int(match[1])

    @property
    def body(self) -> BodyReader:
        """The request's body, by Content-Length or in chunks.

        Raises:
            InvalidArgument: it says neither how long it is nor that it comes in chunks.
        """
        if self._body is None:
            self._body = BodyReader(
                self._handler.rfile, self.header("Content-Length"), chunked=bool(self.header("Transfer-Encoding"))
            )
        return self._body

    def answer(self, status: int, data: bytes, content_type: str = "application/json") -> None:
        """Answer with a whole body."""
        self._begin(status, {"Content-Type": content_type, "Content-Length": str(len(data))})
        self._handler.wfile.write(data)

    def send_file(self, fd: int, offset: int, end: int, headers: Mapping[str, str], *, partial: bool) -> None:
        """Answer with a range of a file, handed to the kernel."""
        self._begin(206 if partial else 200, {**headers, "Content-Length": str(end - offset)})
        if self._handler.command == "HEAD":
            return
        self._handler.wfile.flush()
        with open(fd, "rb", closefd=False) as file:
            if self._handler.connection.sendfile(file, offset, end - offset) != end - offset:
                self._handler.close_connection = True

    def send_chunks(
        self,
        chunks: Iterator[bytes],
        headers: Mapping[str, str],
        *,
        size_bytes: int | None = None,
        partial: bool = False,
    ) -> None:
        """Answer with bytes that come little by little; without a size, in HTTP's chunks.

        An error of `chunks` breaks the connection off before the end, so that a client never takes a part for the whole.
        """
        length = {"Transfer-Encoding": "chunked"} if size_bytes is None else {"Content-Length": str(size_bytes)}
        self._begin(206 if partial else 200, {**headers, **length})
        if self._handler.command == "HEAD":
            return
        out = self._handler.wfile
        for chunk in chunks:
            if size_bytes is None and chunk:
                out.write(b"%x\r\n" % len(chunk))
                out.write(chunk)
                out.write(b"\r\n")
            else:
                out.write(chunk)
            out.flush()  # what comes little by little is awaited
        if size_bytes is None:
            out.write(b"0\r\n\r\n")

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.answered = True
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        if self._has_more():
            self._handler.close_connection = True  # what is left of a body would be taken for the next request
        if self._handler.close_connection:
            self._handler.send_header("Connection", "close")
        self._handler.end_headers()

    def _has_more(self) -> bool:
        if self._body is not None:
            return not self._body.ended
        return bool(self.header("Transfer-Encoding")) or self.header("Content-Length") not in ("", "0")


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _is_chunked(text: str) -> bool:
    return text.strip().lower() == "chunked"


class BodyReader(io.RawIOBase):
    """The bytes of a request's body, never one beyond its end; breaking off early is an error, not an end."""

    def __init__(self, stream: io.BufferedIOBase, length: str, *, chunked: bool) -> None:
        self._stream = stream
        self._chunked = chunked
        if not chunked and not _is_length(length):
            raise InvalidArgument("read request: it says neither how long its body is nor that it comes in chunks")
        self._left = 0 if chunked else int(length)
        self.ended = not chunked and self._left == 0
        self._first = True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the front of `buffer`; 0 at the end.

        Raises:
            Unavailable: the client went away before the end.
            InvalidArgument: it is not in HTTP's chunks.
        """
        if self.ended:
            return 0
        if self._left == 0:
            self._next_chunk()
            if self.ended:
                return 0
        view = memoryview(buffer)[: self._left]
        count = self._stream.readinto1(view)
        if count == 0:
            raise Unavailable("read request: the client broke off before the end", outcome="failed")
        self._left -= count
        if self._left == 0 and not self._chunked:
            self.ended = True
        return count

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces of at most 1 MiB; errors as for `readinto`."""
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while count := self.readinto(buffer):
            yield bytes(buffer[:count])

    def _next_chunk(self) -> None:
        if not self._first:
            self._line()
        self._first = False
        match = _CHUNK_SIZE.fullmatch(self._line())
        if match is None:
            raise InvalidArgument("read request: its body is not in chunks as it says")
        self._left = int(match[1], 16)
        if self._left == 0:
            while self._line().strip():
                pass
            self.ended = True

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise Unavailable("read request: the client broke off before the end", outcome="failed")
        return line
