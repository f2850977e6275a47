"""Paths of a layer with their symbolic links resolved, each name looked up once in the directory that holds it."""

from __future__ import annotations

import os

from hythe.archive.failures import ArchiveError
from hythe.archive.tar import MAX_PATH_BYTES, show

MAX_LINKS = 255
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """Where a path leads: the deepest directory on the way that is there, and the names that are missing below it.

    Links are followed as in a container: the current directory is the root, above which there is nothing. ``..`` takes back
    a name that is missing, or is no directory, by the letters alone. Use it as a context manager.

    Attributes:
        found: names of the directories that are there, from the root down; none of them is a link.
        missing: names to be made in it. The first may be there and no directory.
        fd: the deepest directory.
    """

    __slots__ = ("fd", "found", "missing")

    def __init__(self, path: bytes) -> None:
        """Resolve `path`, which is relative and clean.

        Raises:
            ArchiveError: it leads over more than 255 links, or to a path longer than the kernel takes.
        """
        self.found: list[bytes] = []
        self.missing: list[bytes] = []
        self.fd = os.open(b"/", _DIRECTORY)
        try:
            self._walk(path)
            if len(self.path()) > MAX_PATH_BYTES:
                raise ArchiveError(f"tar entry below {show(path)}: File name too long")
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def _walk(self, path: bytes) -> None:
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            name = waiting.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if self.missing:
                    self.missing.pop()
                elif self.found:
                    self.found.pop()
                    self._go(b"..")
                continue
            if self.missing:
                self.missing.append(name)
                continue
            try:
                self._go(name)
                self.found.append(name)
                continue
            except FileNotFoundError:
                target = None
            except NotADirectoryError:
                target = _link(name, self.fd)
            if target is None:
                self.missing.append(name)
                continue
            links += 1
            if links > MAX_LINKS:
                raise ArchiveError(f"tar entry below {show(path)}: too many symbolic links")
            if target.startswith(b"/"):
                self.found.clear()
                self._go(b"/")
            waiting += target.split(b"/")[::-1]

    def _go(self, name: bytes) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = fd

    def make(self, name: bytes, mode: int) -> bytes:
        """Make the first of the missing directories and step into it; return its path from the root.

        Raises:
            FileExistsError: something else is there.
        """
        os.mkdir(name, mode, dir_fd=self.fd)
        self._go(name)
        self.found.append(name)
        return b"/".join(self.found)

    def path(self) -> bytes:
        """Return the whole path, missing names included; empty for the root."""
        return b"/".join(self.found + self.missing)


def _link(name: bytes, directory: int) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def real(path: bytes) -> bytes:
    """Return `path` with its parent's links resolved; its own last part may be a link and stays."""
    parent, _, base = path.rpartition(b"/")
    if not parent:
        return base
    with Place(parent) as place:
        above = place.path()
    return above + b"/" + base if above else base
