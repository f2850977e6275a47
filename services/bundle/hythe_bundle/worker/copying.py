"""Copying a tree that strangers made, exactly: the one way for snapshots, bundles and volumes.

Owner, mode, extended attributes, times to the nanosecond, hard links across the whole tree, holes, devices, pipes and
sockets are as in the original, but for what a `Manner` says. Where the file system can, copies share their blocks. No
link is followed, no depth hurts, and two directories are open at a time.
"""

from __future__ import annotations

import errno
import os
import stat

from hythe.linux.deep_paths import names_in, open_directory
from hythe_bundle.worker import attributes

GONE = frozenset((errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ESTALE))
PIECE_BYTES = 16 << 20
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_BLOCK_BYTES = 512
_READ_BYTES = 1 << 20


class Manner(attributes.Taken):
    """How a tree is copied. What its methods raise ends the copy."""

    changes = False
    """Whether somebody may change the tree meanwhile: what is gone when it is its turn is counted then, and no error."""

    def enter(self) -> None:
        """Called for each directory."""

    def go_on(self) -> None:
        """Called for each name."""

    def wants(self, found: os.stat_result) -> bool:
        """Tell whether something that is no directory is copied at all."""
        return True

    def open(self, directory: int, name: bytes) -> int:
        """Open a regular file to be read; its time of access stays where the kernel lets this process say so.

        What else somebody put in its place is not even opened: a device may act on that.

        Raises:
            OSError: as open(2); ESTALE where it is another kind of file now.
        """
        seen = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(seen).st_mode):
                raise OSError(errno.ESTALE, "it is another kind of file now")
            return open_quietly(b"/proc/self/fd/%d" % seen, READ)
        finally:
            os.close(seen)

    def wrote(self, fd: int, size: int) -> None:
        """Called for each piece of at most 16 MiB that was written to `fd`."""


class Copy:
    """One copy in progress.

    Attributes:
        file_bytes: bytes of file data copied.
        changed: names that were there and then were not, or were something else or shorter.
    """

    def __init__(self, target: int, manner: Manner) -> None:
        """Prepare to copy into the open directory `target`."""
        self._target = target
        self._manner = manner
        self._first: dict[tuple[int, int], bytes] = {}
        """Where files of several names were copied to first."""
        self.file_bytes = 0
        self.changed = 0

    def tree(self, top: int, path: bytes = b"") -> None:
        """Make the directory `path` of the target, empty, the same as that of the open directory `top`. Blocks.

        Raises:
            OSError: the disk fails or is full.
        """
        waiting = [path]
        while waiting:
            path = waiting.pop()
            self._manner.enter()
            target = open_directory(self._target, path)
            try:
                try:
                    source = open_directory(top, path)
                except OSError as error:
                    self._lost(error)
                    continue
                try:
                    found = os.fstat(source)
                    waiting += self.names(path, source, target, names_in(source))
                    attributes.copy(source, target, found, self._manner)
                finally:
                    os.close(source)
            finally:
                os.close(target)

    def names(self, path: bytes, source: int, target: int, names: list[bytes]) -> list[bytes]:
        """Copy names of the directory `path`; return the paths of those directories among them, made but empty."""
        directories = []
        for name in names:
            self._manner.go_on()
            below = path + b"/" + name if path else name
            try:
                found = os.stat(name, dir_fd=source, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    os.mkdir(name, 0o700, dir_fd=target)
                    directories.append(below)
                elif self._manner.wants(found):
                    self._name(below, name, source, target, found)
            except OSError as error:
                self._lost(error)
        return directories

    def _lost(self, error: OSError) -> None:
        if not self._manner.changes or error.errno not in GONE:
            raise error
        self.changed += 1

    def _name(self, path: bytes, name: bytes, source: int, target: int, found: os.stat_result) -> None:
        inode = (found.st_dev, found.st_ino)
        if inode in self._first:
            self._link(self._first[inode], name, target)
            return
        if stat.S_ISREG(found.st_mode):
            self._file(name, source, target)
        else:
            if stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            else:
                os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            attributes.copy_named(name, source, target, found, self._manner)
        if found.st_nlink > 1:
            self._first[inode] = path

    def _link(self, first: bytes, name: bytes, target: int) -> None:
        parent, _, base = first.rpartition(b"/")
        directory = open_directory(self._target, parent)
        try:
            os.link(base, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(directory)

    def _file(self, name: bytes, source: int, target: int) -> None:
        read = self._manner.open(source, name)
        try:
            found = os.fstat(read)
            write = os.open(name, _CREATE, 0o600, dir_fd=target)
            try:
                self._data(read, write, found)
                attributes.copy(read, write, found, self._manner)
            finally:
                os.close(write)
        finally:
            os.close(read)

    def _data(self, read: int, write: int, found: os.stat_result) -> None:
        """Copy the content of a file; what is a hole stays one."""
        size = found.st_size
        if found.st_blocks * _BLOCK_BYTES >= size:
            self._range(read, write, 0, size)
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
            end = min(os.lseek(read, start, os.SEEK_HOLE), size)
            self._range(read, write, start, end)

    def _range(self, read: int, write: int, start: int, end: int) -> None:
        while start < end:
            count = _copy_piece(read, write, start, min(end - start, PIECE_BYTES))
            if count == 0:
                if not self._manner.changes:
                    raise OSError(errno.EIO, "a file is shorter than it says")
                self.changed += 1
                return
            start += count
            self.file_bytes += count
            self._manner.wrote(write, count)


def _copy_piece(read: int, write: int, start: int, size: int) -> int:
    try:
        if count := os.copy_file_range(read, write, size, start, start):
            return count
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    return os.pwrite(write, os.pread(read, min(size, _READ_BYTES), start), start)


def open_quietly(path: bytes, flags: int, directory: int | None = None) -> int:
    """Open a file, and leave its time of access alone where the kernel lets this process say so."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(path, flags, dir_fd=directory)
