"""The lines by which the worker tells its parent how it goes; the parent trusts none of them beyond their form."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRESS, IMPLIED, DONE, FAILED, CHANGE = b"progress", b"implied", b"done", b"failed", b"change"
MAX_LINE_BYTES = 16384


def progress(taken: int) -> bytes:
    """Line that says how many bytes of the blob were read."""
    return b"%s %d\n" % (PROGRESS, taken)


def implied(paths: Iterable[bytes]) -> bytes:
    """Lines that name the directories which the archive implies."""
    return b"".join(b"%s %s\n" % (IMPLIED, path.hex().encode()) for path in paths)


def done(
    digest: str, size: int, file_bytes: int, entries: int, opaque: bool, elf_32: bool, ignored_xattrs: int
) -> bytes:
    """Last line of success: sha256 and size of the uncompressed archive, and what was found out about the layer."""
    numbers = (size, file_bytes, entries, opaque, elf_32, ignored_xattrs)
    return b"%s %s %d %d %d %d %d %d\n" % (DONE, digest.encode(), *numbers)


def failed(kind: str, number: int, message: str) -> bytes:
    """Last line of failure: kind (see `failures`, or ``os``), errno or 0, and the message."""
    return b"%s %s %d %s\n" % (FAILED, kind.encode(), number, message.encode(errors="replace")[:4000].hex().encode())


def change(kind: bytes, path: bytes) -> bytes:
    """Line that names one change of a comparison."""
    return b"%s %s %s\n" % (CHANGE, kind, path.hex().encode())


def compared(count: int) -> bytes:
    """Last line of a comparison: how many changes there are."""
    return b"%s %d\n" % (DONE, count)


def wrote(diff_id: str, archive_bytes: int, digest: str, blob_bytes: int, entries: int, compress_ms: int) -> bytes:
    """Last line of a layer that was written: sha256 and size of the archive and of its compressed form, and the rest."""
    digests = (diff_id.encode(), archive_bytes, digest.encode(), blob_bytes)
    return b"%s %s %d %s %d %d %d\n" % (DONE, *digests, entries, compress_ms)


def write(lines: bytes) -> None:
    """Write `lines` to stdout, at once and whole."""
    view = memoryview(lines)
    while view:
        view = view[os.write(1, view) :]
