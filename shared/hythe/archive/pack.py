"""Makes an archive of a file or of a directory with all below it, as it stands, without following a link in it."""

# Names in an archive are bytes, which pathlib does not take.
# ruff: noqa: PTH208

from __future__ import annotations

import errno
import os
import stat

from hythe.archive import tar, writer
from hythe.archive.failures import LimitError
from hythe.archive.tar import Entry, show
from hythe.linux.files import open_beneath
from hythe.linux.nodes import is_virtual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 256 << 10
CAPABILITY = "security.capability"
KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCK,
    stat.S_IFIFO: tar.FIFO,
}
"""What an archive can hold, by the type that stat(2) tells; it can't hold sockets."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_GONE = (errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENOTDIR)


def entry_of(name: bytes, found: os.stat_result) -> Entry:
    """Return the entry `name` for what stat(2) says: no link's target, no size and no extended attributes yet."""
    entry = Entry()
    entry.name = name
    entry.kind = KINDS[stat.S_IFMT(found.st_mode)]
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid = found.st_uid, found.st_gid
    entry.mtime_ns = found.st_mtime_ns
    if entry.kind in (tar.CHAR, tar.BLOCK):
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


class Form:
    """What an archive says of each file: what `hythe cp` takes along. Another one has a class of its own."""

    latest_ns: int | None = None
    """No time in the archive is later."""

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the user and group that stand in the archive for those on disk."""
        return uid, gid

    def xattrs(self, file: int | bytes) -> dict[bytes, bytes]:
        """Return the extended attributes to keep of an open file or directory, or of a path to anything else.

        Here it is the capability of a file; nothing else of that kind is copied.
        """
        try:
            return {CAPABILITY.encode(): os.getxattr(file, CAPABILITY)} if isinstance(file, int) else {}
        except OSError:
            return {}

    def check(self, path: bytes) -> None:
        """Return if such an archive can hold a file of this name, relative to the top; else raise what says why."""


CP = Form()


class Packer:
    """One archive. Files that change meanwhile are cut or filled up with zeros to the size they had, with a warning.

    Attributes:
        entries: how many entries were packed.
        file_bytes: bytes of file data packed.
        changed: names that were there and then were not, or were something else or of another size.
        sockets: how many were left out.
        warnings: what is not as it should be, one text each.
    """

    def __init__(self, form: Form = CP) -> None:
        """Prepare an archive, before this process changes its root."""
        self._form = form
        self._descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._seen: dict[tuple[int, int], bytes] = {}
        self.entries = 0
        self.file_bytes = 0
        self.changed = 0
        self.sockets = 0
        self.warnings: list[str] = []

    def chunks(self, directory: int, base: bytes, name: bytes, below: bytes | None = None) -> Iterator[bytes]:
        """Yield the archive of what `base` is in the open `directory`, its first entry called `name`; 256 KiB each.

        Sockets are left out, what is gone before it is its turn, and what other file systems such as /proc make up.

        Args:
            below: how the names of all that is in it begin; ``NAME/`` by default.

        Raises:
            LimitError: a path is longer than an archive may have it.
            OSError: something cannot be read, or `base` is not there.
        """
        buffer = bytearray()
        for piece in self._pieces(directory, base, name, name + b"/" if below is None else below):
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

    def _pieces(self, directory: int, base: bytes, name: bytes, below: bytes) -> Iterator[bytes]:
        found = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            yield from self._leaf(directory, base, name, found)
            return
        top = os.open(base, _DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield self._header(name, os.fstat(top), file=top)
            yield from self._below(top, below)
        finally:
            os.close(top)

    def _below(self, top: int, prefix: bytes) -> Iterator[bytes]:
        """Yield what lies in `top`; one directory is open at a time, however deep they are."""
        device = os.fstat(top).st_dev
        waiting = [b"."]
        while waiting:
            path = waiting.pop()
            _check_length(prefix + path)
            try:
                here = open_beneath(top, path, _DIRECTORY)
            except OSError as error:
                if path == b"." or error.errno not in _GONE:
                    raise
                self.changed += 1
                continue
            try:
                inside = path + b"/" if path != b"." else b""
                if inside:
                    found = os.fstat(here)
                    yield self._header(prefix + path, found, file=here)
                    if found.st_dev != device and is_virtual(here):
                        continue
                directories = []
                for item in sorted(map(os.fsencode, os.listdir(here))):
                    try:
                        found = os.stat(item, dir_fd=here, follow_symlinks=False)
                    except FileNotFoundError:
                        self.changed += 1
                        continue
                    self._form.check(inside + item)
                    if stat.S_ISDIR(found.st_mode):
                        directories.append(inside + item)
                    else:
                        yield from self._leaf(here, item, prefix + inside + item, found)
                waiting += reversed(directories)
            finally:
                os.close(here)

    def _leaf(self, directory: int, base: bytes, name: bytes, found: os.stat_result) -> Iterator[bytes]:
        """Yield anything but a directory."""
        if stat.S_ISSOCK(found.st_mode):
            self.sockets += 1
            return
        same = (found.st_dev, found.st_ino)
        if same in self._seen:
            yield self._header(name, found, link=self._seen[same], kind=tar.LINK)
            return
        before = self.entries
        if stat.S_ISREG(found.st_mode):
            yield from self._file(directory, base, name)
        else:
            yield from self._node(directory, base, name, found)
        if found.st_nlink > 1 and self.entries != before:
            self._seen[same] = name

    def _node(self, directory: int, base: bytes, name: bytes, found: os.stat_result) -> Iterator[bytes]:
        link = b""
        if stat.S_ISLNK(found.st_mode):
            try:
                link = os.readlink(base, dir_fd=directory)
            except OSError as error:
                if error.errno not in (*_GONE, errno.EINVAL):
                    raise
                self.changed += 1
                return
        yield self._header(name, found, link=link, file=b"/proc/self/fd/%d/%s" % (directory, base))

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
            yield self._header(name, found, file=fd)
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
        file: int | bytes = b"",
    ) -> bytes:
        """Return the header of one entry; `file` is what has its extended attributes."""
        _check_length(name)
        entry = entry_of(name, found)
        entry.link = link
        entry.kind = kind or entry.kind
        entry.uid, entry.gid = self._form.owner(found.st_uid, found.st_gid)
        entry.mtime_ns = max(0, found.st_mtime_ns)
        if self._form.latest_ns is not None:
            entry.mtime_ns = min(entry.mtime_ns, self._form.latest_ns)
        if entry.kind == tar.FILE:
            entry.size_bytes = found.st_size
        if file:
            entry.xattrs = self._form.xattrs(file)
        self.entries += 1
        return writer.header(entry)

    def _warn(self, name: bytes, what: str) -> None:
        self.changed += 1
        self.warnings.append(f"{show(name)} {what}")


def _check_length(name: bytes) -> None:
    if len(name) >= tar.MAX_PATH_BYTES:
        raise LimitError(f"{show(name)} is longer than the {tar.MAX_PATH_BYTES} bytes of a path in an archive")
