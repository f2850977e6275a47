"""Copying a tree that strangers made, exactly, and merging a layer with what lies below it into one whole tree.

Owner, mode, extended attributes, times to the nanosecond, hard links across the whole tree, holes, devices, pipes and
sockets are as in the original. Where the file system can, copies share their blocks.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hythe import failpoints
from hythe_bundle.adapters import attributes, merged, threads
from hythe_bundle.adapters.deep_paths import DIRECTORY, names_in, open_directory

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOATIME | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_BLOCK_BYTES = 512
PIECE_BYTES = 16 << 20
_READ_BYTES = 1 << 20


def copy(source: Path, target: Path) -> None:
    """Make `target`, an empty directory, the same as `source`. Blocks.

    Raises:
        OSError: the disk fails or is full.
        threads.GivenUp: nobody waits for it any more.
    """
    merge(source, target)
    pattern, copied = os.open(source, DIRECTORY), os.open(target, DIRECTORY)
    try:
        attributes.copy(pattern, copied)
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
        self._copied: dict[int, bytes] = {}
        """Where files of several names were copied to first, by their inode."""
        self._waiting: list[tuple[bytes, bool, bool]] = [(b"", source >= 0, True)]
        """Directories to go: path, whether it is below as well, whether the layer has it by itself."""

    def run(self) -> None:
        while self._waiting:
            threads.check()
            failpoints.reach("bundle.snapshot.copy")
            path, is_below, is_layers = self._waiting.pop()
            target = open_directory(self._target, path)
            try:
                source = open_directory(self._source, path) if is_below else -1
                try:
                    self._directory(path, source, target, is_layers=is_layers)
                finally:
                    if source >= 0:
                        os.close(source)
            finally:
                os.close(target)

    def _directory(self, path: bytes, source: int, target: int, *, is_layers: bool) -> None:
        before = os.fstat(target)
        own: set[bytes] = set()
        if is_layers:
            if merged.is_opaque(target):
                os.removexattr(target, merged.OPAQUE_XATTR)
                source = -1
            own = self._own(path, source, target)
        if source >= 0:
            for name in names_in(source):
                if name not in own:
                    threads.check()
                    self._entry(path, name, source, target)
        if is_layers:
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            attributes.copy(source, target)

    def _own(self, path: bytes, source: int, target: int) -> set[bytes]:
        """Look at what the layer has in a directory, remove its marks, and return all names that come from it."""
        own: set[bytes] = set()
        for name in names_in(target):
            own.add(name)
            found = os.stat(name, dir_fd=target, follow_symlinks=False)
            if merged.is_whiteout(found):
                os.unlink(name, dir_fd=target)
            elif stat.S_ISDIR(found.st_mode):
                self._waiting.append((_join(path, name), source >= 0 and _is_directory(name, source), True))
        return own

    def _entry(self, path: bytes, name: bytes, source: int, target: int) -> None:
        """Copy one name of the directory `path` that only what lies below has."""
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            self._waiting.append((_join(path, name), True, False))
            return
        if found.st_nlink > 1:
            first = self._copied.setdefault(found.st_ino, _join(path, name))
            if first != _join(path, name):
                self._link(first, name, target)
                return
        if stat.S_ISREG(found.st_mode):
            _copy_file(name, source, target)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        attributes.copy_named(name, source, target, found)

    def _link(self, first: bytes, name: bytes, target: int) -> None:
        parent, _, base = first.rpartition(b"/")
        directory = open_directory(self._target, parent)
        try:
            os.link(base, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(directory)


def _copy_file(name: bytes, source: int, target: int) -> None:
    read = os.open(name, _READ, dir_fd=source)
    try:
        write = os.open(name, _CREATE, 0o600, dir_fd=target)
        try:
            _copy_data(read, write)
            attributes.copy(read, write)
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_data(read: int, write: int) -> None:
    """Copy the content of a file; what is a hole stays one."""
    found = os.fstat(read)
    size = found.st_size
    if found.st_blocks * _BLOCK_BYTES >= size:
        _copy_range(read, write, 0, size)
        return
    os.truncate(write, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(read, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # a hole up to the end
        end = os.lseek(read, start, os.SEEK_HOLE)
        _copy_range(read, write, start, end)


def _copy_range(read: int, write: int, start: int, end: int) -> None:
    while start < end:
        threads.check()
        try:
            count = os.copy_file_range(read, write, min(end - start, PIECE_BYTES), start, start)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            count = os.pwrite(write, os.pread(read, min(end - start, _READ_BYTES), start), start)
        if count == 0:
            return
        start += count


def _is_directory(name: bytes, directory: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
