"""An answer from a registry: its body is read as it comes, within limits, and a stalled one is noticed by its bytes."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from hythe.errors import InvalidArgument, Unavailable
from hythe_distribution.adapters.registry.connections import Connection, Pool
from hythe_distribution.adapters.registry.paced import PacedAnswer
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, broken, stalled
from hythe_distribution.credentials import without_secrets


class Response:
    """An answer whose body is still to be read; closing it keeps its connection only if the body was read to its end.

    Attributes:
        status: HTTP status.
        endpoint: the server that gave it.
        size_bytes: what Content-Length says; None if it says nothing.
    """

    def __init__(
        self,
        step: str,
        pool: Pool,
        connection: Connection,
        raw: PacedAnswer,
        *,
        is_head: bool,
        on_close: Callable[[], None],
        secrets: Sequence[str] = (),
    ) -> None:
        self.status = raw.status
        self.endpoint = connection.endpoint
        self.size_bytes = _content_length(raw)
        self._step = step
        self._pool = pool
        self._connection = connection
        self._raw = raw
        self._on_close = on_close
        self._secrets = secrets
        self._received = 0
        self._remaining = 0 if is_head else raw.length
        self._ended = self._remaining == 0
        self._open = True
        self._waited_s = 0.0
        self._came = 0

    def header(self, name: str) -> str:
        """Return a header's value, several joined by a comma; empty if it isn't there."""
        return self._raw.getheader(name, "")

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come into `buffer`; see `hythe_distribution.registry.Body.readinto`."""
        if self._ended:
            return 0
        began = time.monotonic()
        try:
            count = self._read_some(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise broken(self._step, self.endpoint, self._received, error) from error
        if count == 0:
            if self._remaining is not None:
                raise broken(
                    self._step, self.endpoint, self._received, EOFError(f"{self._remaining} bytes are missing")
                )
            self._ended = True
            return 0
        self._received += count
        if self._remaining is not None:
            self._remaining -= count
            self._ended = self._remaining == 0
        self._require_pace(time.monotonic() - began, count)
        return count

    def _require_pace(self, waited_s: float, came: int) -> None:
        """Count only the time that was spent waiting here: a reader that is slow itself is not the server's fault."""
        self._waited_s += waited_s
        self._came += came
        if self._waited_s < self._pool.stall_timeout_s:
            return
        if self._came < self._pool.stall_bytes and not self._ended:
            raise stalled(self._step, self.endpoint, self._received, f"{self._came} bytes in {self._waited_s:.0f} s")
        self._waited_s, self._came = 0.0, 0

    def _read_some(self, buffer: memoryview) -> int:
        self._raw.paced.begin()
        if self._remaining is None:
            # HTTPResponse.readinto would wait until the whole buffer is full
            data = self._raw.read1(len(buffer))
            if len(data) > len(buffer):  # http.client takes a chunk of negative length for one of any length
                raise http.client.HTTPException("a chunk has a negative length")
            buffer[: len(data)] = data
            return len(data)
        # What came with the headers lies in http.client's buffer; asked for more than its size, readinto1 would hand
        # it out only together with a further read, which may have to wait.
        most_bytes = io.DEFAULT_BUFFER_SIZE if self._received == 0 else self._remaining
        return self._raw.fp.readinto1(buffer[: min(most_bytes, self._remaining)])

    def read_all(self, most_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            InvalidArgument: it is longer than `most_bytes`.
            Unavailable: as for `readinto`.
        """
        data = self.read_front(most_bytes + 1)
        if len(data) > most_bytes:
            raise InvalidArgument(f"{self._step}: {self.endpoint} sends more than {most_bytes} bytes")
        return data

    def read_front(self, most_bytes: int) -> bytes:
        """Return the body, or its first `most_bytes` if it is longer; secrets that a refusal repeats are taken out."""
        data = bytearray()
        buffer = memoryview(bytearray(MAX_PROBLEM_BYTES))
        while len(data) < most_bytes and (count := self.readinto(buffer[: most_bytes - len(data)])):
            data += buffer[:count]
        return without_secrets(bytes(data), self._secrets) if self.status >= 400 else bytes(data)

    def drop(self) -> None:
        """Close it without a look at the body, which is read only where that is quick, so that the connection is kept."""
        try:
            self.read_front(MAX_PROBLEM_BYTES)
        except Unavailable:
            pass  # nobody needed it
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or up."""
        if not self._open:
            return
        self._open = False
        self._on_close()
        self._raw.close()
        if self._ended and not self._raw.will_close:
            self._pool.give(self._connection)
        else:
            self._connection.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _content_length(raw: http.client.HTTPResponse) -> int | None:
    text = raw.getheader("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
