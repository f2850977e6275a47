"""Archives compressed while they are written; the same bytes give the same result on every day."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Compressor(Protocol):
        """One stream being compressed."""

        def compress(self, data: bytes, /) -> bytes: ...
        def flush(self) -> bytes: ...


_GZIP_WINDOW = 31
"""zlib's number for the largest window and a gzip header, which it fills without name and time."""


class _Plain:
    """Leaves everything as it is."""

    def compress(self, data: bytes, /) -> bytes:
        """Return `data`."""
        return data

    def flush(self) -> bytes:
        """Return nothing."""
        return b""


def compressor(kind: str) -> Compressor:
    """Return what compresses one stream: ``gzip``, ``zstd`` or ``none``. Imports what is needed, so call it before a chroot."""
    make: Callable[[], Compressor] = _Plain
    if kind == "gzip":
        from isal import isal_zlib

        return isal_zlib.compressobj(2, isal_zlib.DEFLATED, _GZIP_WINDOW)
    if kind == "zstd":
        from backports import zstd

        return zstd.ZstdCompressor()
    return make()
