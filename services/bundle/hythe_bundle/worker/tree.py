"""The directories of a layer while it is applied: made where they are missing, replaced where an entry says so, dated last."""

# Names in an archive are bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH106

from __future__ import annotations

import os
import stat

from hythe.archive.failures import ArchiveError, LimitError
from hythe.archive.tar import show
from hythe_bundle.worker.marks import OPAQUE_XATTR, is_whiteout
from hythe_bundle.worker.paths import Place, real

IMPLIED_MODE = 0o755
MAX_IMPLIED_BYTES = 16 << 20
"""So that the list of them is short for whoever gets it; honest layers have some kilobytes."""


class Tree:
    """The tree below the current directory, which is the root. Paths are relative and clean (see `apply.clean`).

    Attributes:
        inherits_group: whether a directory with the setgid bit was made, so that what is made may get another group.
        implied_made: how many directories were made that no entry names.
    """

    def __init__(self) -> None:
        self.inherits_group = False
        self.implied_made = 0
        self._implied_bytes = 0
        self._times: dict[bytes, int] = {}
        self._implied: set[bytes] = set()

    def named(self, path: bytes, mode: int) -> tuple[bytes, bool]:
        """Make a directory that the archive names; return its path with links resolved, and whether it is new.

        A directory that is there stays; anything else gives way to it.
        """
        try:
            fresh = self._make(path, mode)
        except (FileNotFoundError, NotADirectoryError):
            path = self.with_parents(path)
            fresh = self._make(path, mode)
        if self._implied:
            self._implied.discard(path if fresh else real(path))
        return path, fresh

    def implied(self, path: bytes) -> bytes:
        """Make directory `path` and those above it where missing; return its path with links resolved.

        Raises:
            ArchiveError: something else is there, or `Place` refuses the path.
            LimitError: all directories that were made so have paths of more than 16 MiB.
        """
        with Place(path) as place:
            while place.missing:
                name = place.missing.pop(0)
                try:
                    made = place.make(name, IMPLIED_MODE)
                    self._implied.add(made)
                except FileExistsError:
                    made = self._make_over_mark(place, name, path)
                self.implied_made += 1
                self._implied_bytes += len(made)
                if self._implied_bytes > MAX_IMPLIED_BYTES:
                    raise LimitError(
                        f"paths of directories that the layer doesn't name have over {MAX_IMPLIED_BYTES} bytes"
                    )
                if self.inherits_group:
                    os.chmod(made, IMPLIED_MODE)
            return place.path()

    def _make_over_mark(self, place: Place, name: bytes, path: bytes) -> bytes:
        """Make a directory where a whiteout is; what is below is no pattern for one that was removed and made anew."""
        if not is_whiteout(os.lstat(name, dir_fd=place.fd)):
            there = b"/".join([*place.found, name])
            raise ArchiveError(f"tar entry below {show(path)}: {show(there)} is not a directory")
        os.unlink(name, dir_fd=place.fd)
        made = place.make(name, IMPLIED_MODE)
        mark_opaque(made)
        return made

    def with_parents(self, path: bytes) -> bytes:
        """Make the directories above `path` that are missing; return `path` with its parent's links resolved."""
        parent, _, base = path.rpartition(b"/")
        found_at = self.implied(parent) if parent else b""
        return found_at + b"/" + base if found_at else base

    def date(self, path: bytes, mtime_ns: int) -> None:
        """Note the time that a directory shall have in the end."""
        self._times[path] = mtime_ns

    def finish(self) -> list[bytes]:
        """Set the times of directories, which making files in them has moved; return the implied ones, parents first."""
        for path, mtime_ns in self._times.items():
            try:
                os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                pass  # removed by a later entry under another name of it
        return sorted(self._implied)

    def remove(self, path: bytes) -> None:
        """Remove what stands where an entry goes, with all below it; of two entries of one name the later wins."""
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        doomed = [path]
        for directory in doomed:
            with os.scandir(directory) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        doomed.append(item.path)
                    else:
                        os.unlink(item.path)
        for directory in reversed(doomed):
            os.rmdir(directory)
            self._times.pop(directory, None)
            self._implied.discard(directory)

    def _make(self, path: bytes, mode: int) -> bool:
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            return self._make_over(path, mode)
        return True

    def _make_over(self, path: bytes, mode: int) -> bool:
        """Make a directory where something is; return whether it is new. One that replaces a whiteout hides what is below."""
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode):
            return False
        os.unlink(path)
        os.mkdir(path, mode)
        if is_whiteout(found):
            mark_opaque(path)
        return True


def mark_opaque(path: bytes) -> None:
    """Mark a directory so that overlayfs hides what lies below it."""
    os.setxattr(path, OPAQUE_XATTR, b"y", follow_symlinks=False)
