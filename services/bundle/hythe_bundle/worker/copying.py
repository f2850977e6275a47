"""Copying a tree exactly: owner, mode, extended attributes, times, hard links, holes, devices, pipes and sockets."""

from __future__ import annotations

import errno
import os
import stat

from hythe_bundle.worker.walk import ENTER, GONE, LEAVE, Walk, name_in, open_file, xattrs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hythe_bundle.worker.walk import Step

PIECE_BYTES = 8 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_BLOCK_BYTES = 512


class Copy:
    """One copy in progress.

    Attributes:
        file_bytes: bytes of file data copied.
        walk: how the source was walked.
    """

    def __init__(self, source: int, target: int, wrote: Callable[[int, int], None]) -> None:
        """Prepare to make the empty, open directory `target` like `source`; `wrote` is told (descriptor, bytes)."""
        self.walk = Walk(source)
        self.file_bytes = 0
        self._target = target
        self._wrote = wrote
        self._first: dict[tuple[int, int], bytes] = {}

    def run(self) -> None:
        """Copy everything.

        Raises:
            OSError: the kernel refuses, e.g. the disk is full.
        """
        stack: list[int] = []
        try:
            for step in self.walk.steps():
                if step.kind == ENTER:
                    stack.append(self._enter(step, stack))
                elif step.kind == LEAVE:
                    _take_over(step.directory, stack[-1], step.found)
                    os.close(stack.pop())
                else:
                    self._name(step, stack[-1])
        finally:
            for fd in stack:
                os.close(fd)

    def _enter(self, step: Step, stack: list[int]) -> int:
        if not stack:
            return os.dup(self._target)
        name = step.path.rpartition(b"/")[2]
        os.mkdir(name, 0o700, dir_fd=stack[-1])
        return os.open(name, _NEW_DIRECTORY, dir_fd=stack[-1])

    def _name(self, step: Step, target: int) -> None:
        found = step.found
        if found.st_nlink > 1:
            first = self._first.setdefault((found.st_dev, found.st_ino), step.path)
            if first != step.path:
                os.link(first, step.name, src_dir_fd=self._target, dst_dir_fd=target, follow_symlinks=False)
                return
        try:
            if stat.S_ISREG(found.st_mode):
                self._file(step, target)
                return
            if stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(step.name, dir_fd=step.directory), step.name, dir_fd=target)
            else:
                os.mknod(step.name, found.st_mode, found.st_rdev, dir_fd=target)
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.walk.changed += 1
            self._first.pop((found.st_dev, found.st_ino), None)
            return
        os.chown(step.name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        for key, value in xattrs_of(name_in(step.directory, step.name)).items():
            os.setxattr(name_in(target, step.name), key, value, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(step.name, stat.S_IMODE(found.st_mode), dir_fd=target)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(step.name, ns=times, dir_fd=target, follow_symlinks=False)

    def _file(self, step: Step, target: int) -> None:
        read = open_file(step.directory, step.name)
        try:
            write = os.open(step.name, _NEW_FILE, 0o600, dir_fd=target)
            try:
                self._data(read, write)
                _take_over(read, write, step.found)
            finally:
                os.close(write)
        finally:
            os.close(read)

    def _data(self, read: int, write: int) -> None:
        """Copy the content of a file; what is a hole stays one."""
        found = os.fstat(read)
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
            end = os.lseek(read, start, os.SEEK_HOLE)
            self._range(read, write, start, end)

    def _range(self, read: int, write: int, start: int, end: int) -> None:
        while start < end:
            try:
                count = os.copy_file_range(read, write, min(end - start, PIECE_BYTES), start, start)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                count = os.pwrite(write, os.pread(read, min(end - start, PIECE_BYTES), start), start)
            if count == 0:
                return
            start += count
            self.file_bytes += count
            self._wrote(write, count)


def _take_over(pattern: int, target: int, found: os.stat_result) -> None:
    """Give an open file or directory the attributes of another; the owner first, for a change of it takes away others."""
    os.fchown(target, found.st_uid, found.st_gid)
    for key, value in xattrs_of(pattern).items():
        os.setxattr(target, key, value)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
