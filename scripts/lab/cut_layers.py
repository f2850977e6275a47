"""Layers of a real image without what fills them: every entry as it is, of each file's data the first bytes alone.

What an applier makes of entries doesn't depend on the rest, and so an image of hundreds of megabytes is kept in one.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 16
_BLOCK = 512
_WHOLE = (b"x", b"g", b"L", b"K")


def cut(archive: bytes) -> bytes:
    """Return `archive` with at most 16 bytes of data in each file; extension headers stay whole."""
    out, at = [], 0
    while at < len(archive) and any(block := archive[at : at + _BLOCK]):
        size, at = int(block[124:136].rstrip(b"\0 ") or b"0", 8), at + _BLOCK
        kept = size if block[156:157] in _WHOLE else min(size, MOST_BYTES)
        out.append(_resized(block, kept) + archive[at : at + kept] + bytes(-kept % _BLOCK))
        at += size + -size % _BLOCK
    return b"".join(out) + bytes(2 * _BLOCK)


def _resized(block: bytes, size: int) -> bytes:
    made = bytearray(block)
    made[124:136] = b"%011o\0" % size
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def keep(path: Path, archives: Sequence[bytes]) -> None:
    """Write archives to one compressed file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as whole:
        for number, archive in enumerate(archives):
            member = tarfile.TarInfo(f"{number}.tar")
            member.size = len(archive)
            whole.addfile(member, io.BytesIO(archive))
    path.write_bytes(lzma.compress(out.getvalue(), preset=9 | lzma.PRESET_EXTREME))


def kept(path: Path) -> list[bytes]:
    """Return the archives that `keep` wrote."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes()))) as whole:
        return [file.read() for member in whole if (file := whole.extractfile(member)) is not None]
