"""Makes an archive of a file or of a directory with all below it, as it stands, without following a link in it."""

# Names in an archive are bytes, which pathlib does not take.
# ruff: noqa: PTH208

from __future__ import annotations

import errno
import os
import stat

from hythe.archive import tar, writer
from hythe.archive.tar import show
from hythe.linux.files import open_beneath
from hythe.linux.nodes import is_virtual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 256 << 10
CAPABILITY = "security.capability"
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCK,
    stat.S_IFIFO: tar.FIFO,
}
_GONE = (errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENOTDIR)


class Packer:
    """One archive. Files that change meanwhile are cut or filled up with zeros to the size they had, with a warning.

    Attributes:
        entries: how many entries were packed.
        file_bytes: bytes of file data packed.
        warnings: what is not as it should be, one text each.
    """

    def __init__(self, owner: Callable[[int, int], tuple[int, int]] | None = None) -> None:
        """Prepare an archive, before this process changes its root; `owner` says which (uid, gid) stands for one on disk."""
        self._owner = owner
        self._descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._seen: dict[tuple[int, int], bytes] = {}
        self.entries = 0
        self.file_bytes = 0
        self.warnings: list[str] = []

    def chunks(self, directory: int, base: bytes, name: bytes) -> Iterator[bytes]:
        """Yield the archive of what `base` is in the open `directory`, its first entry called `name`; 256 KiB each.

        Sockets are left out, what is gone before it is its turn, and what other file systems such as /proc make up.

        Raises:
            OSError: something cannot be read, or `base` is not there.
        """
        buffer = bytearray()
        for piece in self._pieces(directory, base, name):
            if len(piece) >= CHUNK_BYTES:
                if buffer:
                    yield bytes(buffer)
                    buffer.clear()
                yield piece
                continue
            buffer += piece
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
        buffer += writer.END_MARK
        yield bytes(buffer)

    def close(self) -> None:
        """Let go of what is open."""
        os.close(self._descriptors)

    def _pieces(self, directory: int, base: bytes, name: bytes) -> Iterator[bytes]:
        found = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            yield from self._leaf(directory, base, name, found)
            return
        top = os.open(base, _DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield self._header(name, os.fstat(top))
            yield from self._below(top, name)
        finally:
            os.close(top)

    def _below(self, top: int, name: bytes) -> Iterator[bytes]:
        """Yield what lies in `top`; one directory is open at a time, however deep they are."""
        device = os.fstat(top).st_dev
        waiting = [b"."]
        while waiting:
            path = waiting.pop()
            try:
                here = open_beneath(top, path, _DIRECTORY)
            except OSError as error:
                if path == b"." or error.errno not in _GONE:
                    raise
                continue
            try:
                inside = path + b"/" if path != b"." else b""
                if inside:
                    found = os.fstat(here)
                    yield self._header(name + b"/" + path, found)
                    if found.st_dev != device and is_virtual(here):
                        continue
                directories = []
                for item in sorted(map(os.fsencode, os.listdir(here))):
                    try:
                        found = os.stat(item, dir_fd=here, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        directories.append(inside + item)
                    else:
                        yield from self._leaf(here, item, name + b"/" + inside + item, found)
                waiting += reversed(directories)
            finally:
                os.close(here)

    def _leaf(self, directory: int, base: bytes, name: bytes, found: os.stat_result) -> Iterator[bytes]:
        """Yield anything but a directory."""
        if stat.S_ISSOCK(found.st_mode):
            return
        same = (found.st_dev, found.st_ino)
        if found.st_nlink > 1:
            if same in self._seen:
                yield self._header(name, found, link=self._seen[same], kind=tar.LINK)
                return
            self._seen[same] = name
        if stat.S_ISREG(found.st_mode):
            yield from self._file(directory, base, name)
        elif stat.S_ISLNK(found.st_mode):
            try:
                link = os.readlink(base, dir_fd=directory)
            except OSError as error:
                if error.errno not in (*_GONE, errno.EINVAL):
                    raise
                return
            yield self._header(name, found, link=link)
        else:
            yield self._header(name, found)

    def _file(self, directory: int, base: bytes, name: bytes) -> Iterator[bytes]:
        try:
            fd = self._open_file(directory, base)
        except OSError as error:
            if error.errno not in _GONE:
                raise OSError(error.errno, error.strerror, os.fsdecode(name)) from None
            self._warn(name, "is gone")
            return
        if fd < 0:
            self._warn(name, "is another kind of file now")
            return
        try:
            found = os.fstat(fd)
            yield self._header(name, found, xattrs=_capability(fd))
            left = found.st_size
            while left and (data := os.read(fd, min(left, CHUNK_BYTES))):
                left -= len(data)
                yield data
            self.file_bytes += found.st_size
            if left or os.fstat(fd).st_size != found.st_size:
                self._warn(name, "changed while it was read")
            while left:
                data = bytes(min(left, CHUNK_BYTES))
                left -= len(data)
                yield data
            yield writer.padding(found.st_size)
        finally:
            os.close(fd)

    def _open_file(self, directory: int, base: bytes) -> int:
        """Open a regular file to be read; -1 if it is none any more: to open a device may already do something."""
        seen = os.open(base, _LOOK, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(seen).st_mode):
                return -1
            return os.open(b"%d" % seen, _READ, dir_fd=self._descriptors)
        finally:
            os.close(seen)

    def _header(
        self,
        name: bytes,
        found: os.stat_result,
        *,
        link: bytes = b"",
        kind: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
    ) -> bytes:
        entry = tar.Entry()
        entry.name, entry.link = name, link
        entry.kind = kind or _KINDS[stat.S_IFMT(found.st_mode)]
        entry.mode = stat.S_IMODE(found.st_mode)
        entry.uid, entry.gid = (
            (found.st_uid, found.st_gid) if self._owner is None else self._owner(found.st_uid, found.st_gid)
        )
        entry.mtime_ns = max(0, found.st_mtime_ns)
        if entry.kind == tar.FILE:
            entry.size_bytes = found.st_size
            entry.xattrs = xattrs or {}
        elif entry.kind in (tar.CHAR, tar.BLOCK):
            entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        self.entries += 1
        return writer.header(entry)

    def _warn(self, name: bytes, what: str) -> None:
        self.warnings.append(f"{show(name)} {what}")


def _capability(fd: int) -> dict[bytes, bytes]:
    """Return the file capability of an open file, as an extended attribute; nothing else of that kind is copied."""
    try:
        return {CAPABILITY.encode(): os.getxattr(fd, CAPABILITY)}
    except OSError:
        return {}
