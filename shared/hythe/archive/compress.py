"""Layers compressed on their way out: the same bytes in give the same bytes out, on every day."""

from __future__ import annotations

from isal import isal_zlib

LEVEL = 2
_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""No name, no time, no flags, no operating system: nothing that would make two of the same differ."""


class Gzip:
    """A gzip stream of one member. Equal pieces give equal bytes; other pieces of the same data may not.

    Which bytes they are depends on the version of isal, and on the kind of processor: x86 and ARM differ.

    Spec: RFC 1952.
    """

    def __init__(self) -> None:
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)
        self._sum = 0
        self._size = 0
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        """Take `data` and return what of the stream is ready."""
        self._sum = isal_zlib.crc32(data, self._sum)
        self._size += len(data)
        return self._start() + self._deflate.compress(data)

    def finish(self) -> bytes:
        """Return the rest of the stream."""
        trailer = self._sum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._start() + self._deflate.flush() + trailer

    def _start(self) -> bytes:
        begun, self._begun = self._begun, True
        return b"" if begun else _HEADER
