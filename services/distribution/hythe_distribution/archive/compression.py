"""How an archive is compressed as a whole: told by its first bytes, undone while it streams, with bounded memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hythe.errors import DataLoss, Unimplemented

CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LONGEST_MAGIC = 6
_XZ_MEMORY_BYTES = 128 << 20


class Decompressor(Protocol):
    """One compressed stream being undone, as Python's own modules and the usual libraries have it."""

    @property
    def needs_input(self) -> bool:
        """Whether it gives nothing more without more data."""

    @property
    def eof(self) -> bool:
        """Whether the compressed stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows the end of the compressed stream."""

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes:
        """Take `data` and return at most `max_length` bytes."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How a compressed stream is undone.

    Attributes:
        make: begins with a new stream.
        failures: what its `decompress` raises when the stream is damaged.
    """

    make: Callable[[], Decompressor]
    failures: tuple[type[Exception], ...]


def decompressed(chunks: Iterator[bytes], zstd: Codec | None) -> Iterator[bytes]:
    """Yield the bytes of `chunks` uncompressed: gzip, bzip2, xz or zstd by their magic numbers, anything else as it is.

    Several compressed streams one after the other count as one; zeros after the last are padding. Nothing is inflated
    beyond 1 MiB ahead of the consumer, and no dictionary is larger than 128 MiB.

    Args:
        chunks: the archive's bytes, none of them empty.
        zstd: Python 3.11 has none of its own; None where there is no library.

    Raises:
        DataLoss: the compressed stream is damaged or ends early.
        Unimplemented: it is zstd, and `zstd` is None.
    """
    first = b""
    while len(first) < _LONGEST_MAGIC and (more := next(chunks, b"")):
        first += more
    codec = _choose(first, zstd)
    if codec is None:
        if first:
            yield first
        yield from chunks
        return
    inner, data = codec.make(), first
    while True:
        try:
            piece = inner.decompress(data, CHUNK_BYTES)
        except codec.failures as error:
            raise DataLoss("read archive: its compressed stream is damaged", cause=str(error)) from None
        data = b""
        if piece:
            yield piece
        if inner.eof:
            data = inner.unused_data or next(chunks, b"")
            while data and not data.strip(b"\0"):
                data = next(chunks, b"")
            if not data:
                return
            inner = codec.make()
        elif inner.needs_input:
            data = next(chunks, b"")
            if not data:
                raise DataLoss("read archive: its compressed stream ends early")


def layer_compression(start: bytes) -> str:
    """Return how a layer that begins with `start` is compressed: ``gzip``, ``zstd`` or empty for neither."""
    if start.startswith(_GZIP):
        return "gzip"
    return "zstd" if start.startswith(_ZSTD) else ""


def _choose(first: bytes, zstd: Codec | None) -> Codec | None:
    if first.startswith(_GZIP):
        return Codec(_Gzip, (zlib.error,))
    if first.startswith(_BZIP2):
        return Codec(bz2.BZ2Decompressor, (OSError, ValueError))
    if first.startswith(_XZ):
        return Codec(lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES), (lzma.LZMAError,))
    if first.startswith(_ZSTD) and zstd is None:
        raise Unimplemented(
            "read archive: it is compressed by zstd, for which this installation has no library",
            next_step="decompress it first (zstd -d), or install the Python package backports.zstd",
        )
    return zstd if first.startswith(_ZSTD) else None


class _Gzip:
    """zlib's gzip reader with the attributes that the other decompressors of Python have."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = CHUNK_BYTES, /) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = len(piece) < max_length and not self._inner.unconsumed_tail
        return piece
