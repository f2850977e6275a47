"""The sending end of an io channel for bytes that this command makes, such as an archive, as fast as they are granted."""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Produced:
    """Takes chunks from an iterator within the credit, and keeps what is not acknowledged to send it again after a gap.

    Stands beside `hythe.client.io_input.Input`; it has no descriptor to wait for.
    """

    descriptor = -1
    wants_poll = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Send what `chunks` yields, none of it empty."""
        self._chunks = chunks
        self._kept: deque[tuple[int, bytes]] = deque()
        self._made = 0
        self._sent = 0
        self._have = 0
        self._until = 0
        self._end_sent = False
        self._ended = False

    def read(self) -> None:
        """There is nothing to wait for."""

    def credit(self, body: dict[str, Any]) -> None:
        """Note what the host has and may be sent (`hythe.wire.io.Credit`)."""
        self._have, self._until = int(body["have"]), int(body["until"])
        while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= self._have:
            self._kept.popleft()
        if body.get("resend"):
            self._sent, self._end_sent = min(self._sent, self._have), False

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) that may be sent now; empty bytes are the end of file."""
        while self._sent < self._until:
            if self._sent == self._made:
                data = next(self._chunks, b"")
                if not data:
                    self._ended = True
                    break
                self._kept.append((self._made, data))
                self._made += len(data)
            for offset, data in tuple(self._kept):
                if offset + len(data) <= self._sent:
                    continue
                start = max(0, self._sent - offset)
                piece = (
                    data[start : start + self._until - self._sent]
                    if start or offset + len(data) > self._until
                    else data
                )
                if piece:
                    yield self._sent, piece
                    self._sent += len(piece)
        if self._ended and self._sent == self._made and not self._end_sent and self._until > 0:
            self._end_sent = True
            yield self._made, b""
