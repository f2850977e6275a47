"""Copying a snapshot's tree, and merging a layer with what lies below it into one whole tree (see `worker.copying`)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hythe import failpoints, threads
from hythe.linux.deep_paths import DIRECTORY, names_in, open_directory
from hythe_bundle.adapters import merged
from hythe_bundle.worker.copying import Copy, Manner
from hythe_bundle.worker.marks import OPAQUE_XATTR, is_whiteout


class _InThread(Manner):
    """A copy that ends when nobody waits for it any more; file systems of snapshots need not have all attributes."""

    lossy = True

    def enter(self) -> None:
        threads.check()
        failpoints.reach("bundle.snapshot.copy")

    def go_on(self) -> None:
        threads.check()

    def wrote(self, fd: int, size: int) -> None:
        threads.check()


def copy(source: Path, target: Path) -> None:
    """Make `target`, an empty directory, the same as `source`. Blocks.

    Raises:
        OSError: the disk fails or is full.
        threads.GivenUp: nobody waits for it any more.
    """
    pattern, copied = os.open(source, DIRECTORY), os.open(target, DIRECTORY)
    try:
        Copy(copied, _InThread()).tree(pattern)
    finally:
        os.close(pattern)
        os.close(copied)


def merge(below: Path | None, layer: Path) -> None:
    """Make `layer`, which is in overlayfs's form, the whole tree that shows when it lies on the whole tree `below`. Blocks.

    Marks for what was taken away are gone then. Directories that the layer has keep its attributes and times.

    Raises:
        OSError, threads.GivenUp: see `copy`; the layer is of no use any more.
    """
    with_source = -1 if below is None else os.open(below, DIRECTORY)
    try:
        target = os.open(layer, DIRECTORY)
        try:
            _Merge(with_source, target).run()
        finally:
            os.close(target)
    finally:
        if with_source >= 0:
            os.close(with_source)


class _Merge:
    """One merge in progress. Paths are relative to both tops; each directory is opened for as long as it is worked on."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._manner = _InThread()
        self._copy = Copy(target, self._manner)
        self._waiting: list[tuple[bytes, bool]] = [(b"", source >= 0)]
        """Directories of the layer to go: path, whether it is below as well."""

    def run(self) -> None:
        while self._waiting:
            self._manner.enter()
            path, is_below = self._waiting.pop()
            target = open_directory(self._target, path)
            try:
                source = open_directory(self._source, path) if is_below else -1
                try:
                    only_below = self._directory(path, source, target)
                finally:
                    if source >= 0:
                        os.close(source)
            finally:
                os.close(target)
            for directory in only_below:
                self._copy.tree(self._source, directory)

    def _directory(self, path: bytes, source: int, target: int) -> list[bytes]:
        """Merge one directory of the layer; return the directories in it that only what lies below has."""
        before = os.fstat(target)
        if merged.is_opaque(target):
            os.removexattr(target, OPAQUE_XATTR)
            source = -1
        own = self._own(path, source, target)
        only_below: list[bytes] = []
        if source >= 0:
            missing = [name for name in names_in(source) if name not in own]
            only_below = self._copy.names(path, source, target, missing)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        return only_below

    def _own(self, path: bytes, source: int, target: int) -> set[bytes]:
        """Look at what the layer has in a directory, remove its marks, and return all names that come from it."""
        own: set[bytes] = set()
        for name in names_in(target):
            own.add(name)
            found = os.stat(name, dir_fd=target, follow_symlinks=False)
            if is_whiteout(found):
                os.unlink(name, dir_fd=target)
            elif stat.S_ISDIR(found.st_mode):
                below = path + b"/" + name if path else name
                self._waiting.append((below, source >= 0 and _is_directory(name, source)))
        return own


def _is_directory(name: bytes, directory: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
