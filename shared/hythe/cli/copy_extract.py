"""What comes out of a container made into local files, though a container wrote it and perhaps a stranger's host sent it."""

from __future__ import annotations

import os

from hythe.archive import tar
from hythe.archive.beneath import Beneath
from hythe.archive.extract import Extraction
from hythe.archive.placing import begin
from hythe.archive.stream import Source
from hythe.errors import DataLoss
from hythe.linux.files import open_real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hythe.archive.placing import Destination
    from hythe.archive.tar import Entry


def extract(
    chunks: Iterator[bytes], to: Destination, name: bytes, *, keep_owner: bool, wrote: Callable[[int], None]
) -> list[str]:
    """Make what the archive has at `to`; return what was left out and why.

    Modes are the archive's, whatever this process's umask. With `keep_owner` owners are it too, and devices are made; else all
    is this process's own, and neither set-id bits nor devices come out: the container's root wrote them, and here they would
    give every local user the rights of whoever copies.

    Args:
        chunks: the archive, to its end.
        to: where to.
        name: what all its names must begin with; ``.`` for the contents of a directory.
        wrote: told how many bytes of file data were written, each time.

    Raises:
        DataLoss: the archive is empty, or ends too early.
        ArchiveError, InvalidArgument, OSError: as `Extraction.run` and `begin`.
    """
    source = Source(chunks)
    entries = tar.entries(source)
    first = next(entries, None)
    if first is None:
        raise DataLoss("receive the archive: it is empty")
    begins = [] if name == b"." else [name]
    directory, _, new = begin(name, is_directory=first.kind == tar.DIRECTORY, to=to)
    own = os.geteuid(), os.getegid()
    devices = keep_owner and own[0] == 0

    def owner(uid: int, gid: int) -> tuple[int, int, bool]:
        return (uid, gid, True) if keep_owner else (*own, False)

    top = open_real(directory)
    umask = os.umask(0)
    try:
        extraction = Extraction(Beneath(top), source, owner=owner, devices=devices, old=begins, new=new, wrote=wrote)
        extraction.run(_again(first, entries))
        return extraction.warnings
    finally:
        os.umask(umask)
        os.close(top)


def _again(first: Entry, entries: Iterator[Entry]) -> Iterator[Entry]:
    yield first
    yield from entries
