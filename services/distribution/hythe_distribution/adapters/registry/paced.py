"""Answers read against the clock: who sends single bytes of headers gets no more time than who sends nothing.

`http.client` waits for one receive at a time. A server can answer each in time and never come to an end: with headers byte
by byte, with ``100 Continue`` again and again, with the extension of a chunk, with trailers.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any


class PacedReader(io.RawIOBase):
    """The bytes that come over a socket; all receives since `begin` together may take the socket's timeout."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        """Read from `raw`, which reads from `sock`."""
        self._raw = raw
        self._sock = sock
        self._timeout_s = sock.gettimeout()
        self._until = 0.0
        self._first = True
        self.begin()

    def begin(self) -> None:
        """Start the clock anew."""
        self._until = time.monotonic() + (self._timeout_s or 0.0)
        self._first = True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        """Receive into `buffer`; 0 at the end.

        Raises:
            TimeoutError: nothing came, or it came too slowly.
        """
        if self._first or self._timeout_s is None:  # the socket has its whole timeout, nothing needs to be set
            self._first = False
            return self._raw.readinto(buffer)
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left_s)
        try:
            return self._raw.readinto(buffer)
        finally:
            self._sock.settimeout(self._timeout_s)

    def close(self) -> None:
        """Close what it reads from; the socket is closed by its connection."""
        self._raw.close()
        super().close()


class PacedAnswer(http.client.HTTPResponse):
    """An answer whose status and headers come within the timeout of its socket; what reads the body begins each time anew.

    Attributes:
        paced: what its bytes come through.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.paced = PacedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self.paced)
