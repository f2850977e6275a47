"""Reading a blob that is still on its way: what a client gets before the download has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType

from hythe.ports.content import MAX_CHUNK_BYTES, Content
from hythe_distribution.flight import Flight


class Follower:
    """Reads along with a download, from one thread; that goes on as long as this is open.

    Nothing that it gives is verified before it has given its end. Leaving its ``with`` block closes it.

    Attributes:
        total_bytes: size that the blob is promised to have.
    """

    def __init__(self, flight: Flight, content: Content, offset: int) -> None:
        """Read on from byte `offset`; takes over that the flight was joined."""
        self.total_bytes = flight.descriptor.size_bytes
        self._flight = flight
        self._content = content
        self._offset = offset
        self._round = 0
        self._stored: Iterator[bytes] | None = None
        self._rest = b""
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def read(self, most_bytes: int) -> bytes:
        """Return the next bytes, at least one and at most `most_bytes` or 1 MiB, as soon as there are any.

        Nothing is returned only at the end, when the whole blob was verified and is in the store.

        Raises:
            HytheError: the download has failed. What was given before may be wrong.
            Unavailable: the download was given up, or begun anew after wrong bytes.
            Cancelled: this was closed meanwhile.
        """
        most_bytes = min(most_bytes, MAX_CHUNK_BYTES)
        while self._stored is None:
            number, ingest = self._flight.wait_beyond(self._offset, self._round, self._closed)
            if ingest is None:
                self._stored = self._content.read(self._flight.descriptor.digest, self._offset)
            elif data := ingest.read_back(self._offset, most_bytes):
                self._round = number
                self._offset += len(data)
                return data
        if not self._rest:
            self._rest = next(self._stored, b"")
        data, self._rest = self._rest[:most_bytes], self._rest[most_bytes:]
        return data

    def close(self) -> None:
        """Let go of the download, which is given up when nobody else waits, and wake a `read`; repeating it does nothing."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._flight.wake()
        self._flight.leave()

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
