"""A walk over a tree that strangers made and may still be changing: by open directories, through no link.

Names come sorted, so that two walks of one tree say the same.
"""

# Names on a disk are bytes, which pathlib does not take.

from __future__ import annotations

import errno
import os
import stat

from hythe_bundle.worker import attributes
from hythe_bundle.worker.copying import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 4096
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

ENTER, LEAVE, NAME = "enter", "leave", "name"


class Step:
    """One step: into a directory, out of it, or a name in it that is no directory.

    Attributes:
        path: relative to the top; empty for the top itself.
        directory: the open directory: the one that is entered or left, else the one that has `name`.
        found: what lstat(2) says.
    """

    __slots__ = ("directory", "found", "kind", "name", "path")

    def __init__(self, kind: str, path: bytes, directory: int, name: bytes, found: os.stat_result) -> None:
        self.kind = kind
        self.path = path
        self.directory = directory
        self.name = name
        self.found = found


class Walk:
    """One walk.

    Attributes:
        changed: names that were there and then were not, or were something else.
    """

    def __init__(self, top: int) -> None:
        """Prepare to walk below the open directory `top`, which stays open."""
        self._top = top
        self.changed = 0

    def steps(self) -> Iterator[Step]:
        """Yield all steps, a directory before what lies in it. Descriptors are good until the next step.

        Raises:
            OSError: a directory can't be read; ELOOP for more than 4096 directories in one another.
        """
        stack: list[tuple[int, bytes, Iterator[bytes]]] = []
        try:
            yield Step(ENTER, b"", self._top, b"", os.fstat(self._top))
            stack.append((os.dup(self._top), b"", iter(_names(self._top))))
            while stack:
                here, path, names = stack[-1]
                name = next(names, None)
                if name is None:
                    yield Step(LEAVE, path, here, b"", os.fstat(here))
                    os.close(stack.pop()[0])
                    continue
                below = path + b"/" + name if path else name
                try:
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    inner = os.open(name, DIRECTORY, dir_fd=here) if stat.S_ISDIR(found.st_mode) else -1
                except OSError as error:
                    if error.errno not in GONE:
                        raise
                    self.changed += 1
                    continue
                if inner < 0:
                    yield Step(NAME, below, here, name, found)
                    continue
                stack.append((inner, below, iter(())))
                if len(stack) > MAX_DEPTH:
                    raise OSError(errno.ELOOP, f"more than {MAX_DEPTH} directories in one another")
                yield Step(ENTER, below, inner, b"", os.fstat(inner))
                stack[-1] = (inner, below, iter(_names(inner)))
        finally:
            for fd, _, _ in stack:
                os.close(fd)


def xattrs_of(target: int | bytes) -> dict[str, bytes]:
    """Return the extended attributes of an open file, or of a name (a link itself), but for ``trusted.*``, the kernel's own."""
    return attributes.xattrs_of(target, lambda name: not name.startswith(attributes.KERNELS_OWN))


def name_in(directory: int, name: bytes) -> bytes:
    """Return a path of `name` in an open directory, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _names(directory: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(directory)))
