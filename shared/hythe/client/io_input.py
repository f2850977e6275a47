"""The sending end of an io channel: this command's stdin on its way to a container, within the credit it granted."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CHUNK_BYTES = 64 << 10
KEPT_BYTES = 1 << 20


class Input:
    """Reads a descriptor and keeps what the container's host has not acknowledged, to send it again after a gap."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._kept = bytearray()
        self._base = 0
        self._sent = 0
        self._until = 0
        self._end_sent = False
        try:
            self._file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            self.ended, self._file = True, False

    @property
    def wants_poll(self) -> bool:
        """Tell whether `read` should be called when the descriptor is readable."""
        return not self.ended and len(self._kept) < KEPT_BYTES

    def read(self) -> None:
        """Take what is there; call when the descriptor is readable."""
        try:
            data = os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # e.g. a terminal that hung up: the same as its end
        if data:
            self._kept += data
        else:
            self.ended = True

    def credit(self, body: dict[str, Any]) -> None:
        """Note what the host has and may be sent (`hythe.wire.io.Credit`)."""
        have, self._until = int(body["have"]), int(body["until"])
        if have > self._base:
            del self._kept[: have - self._base]
            self._base = have
        self._sent = max(self._sent, self._base)
        if body.get("resend"):
            self._sent, self._end_sent = self._base, False

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) that may be sent now; empty bytes are the end of file."""
        end = self._base + len(self._kept)
        while self._sent < min(end, self._until):
            size = min(CHUNK_BYTES, end - self._sent, self._until - self._sent)
            start = self._sent - self._base
            yield self._sent, bytes(self._kept[start : start + size])
            self._sent += size
        if self.ended and self._sent == end and not self._end_sent and self._until > 0:
            self._end_sent = True
            yield end, b""
