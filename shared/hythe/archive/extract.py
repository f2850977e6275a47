"""Makes the files of an archive in a directory, plainly: no name in the archive means anything but itself.

The archive is a stranger's, and so may be what lies in the directory: nothing outside the directory is reached through
names with ``..``, through links that were there, that the archive makes, or that somebody puts in the way meanwhile. Each
file gets its name only once it is whole, in place of what had that name.
"""

from __future__ import annotations

import errno
import os
import stat

from hythe.archive import tar
from hythe.archive.failures import ArchiveError
from hythe.archive.tar import show
from hythe.errors import InvalidArgument
from hythe.linux.nodes import chown_descriptor, date_descriptor, link_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hythe.archive.beneath import Directories
    from hythe.archive.stream import Source
    from hythe.archive.tar import Entry

CAPABILITY = b"security.capability"
_PATH = os.O_PATH | os.O_DIRECTORY
_TEMPORARY = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_NAMED = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_TEMPORARY = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_SET_ID = 0o6000
_NEW_MODE = 0o755
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Extraction:
    """One archive on its way into a directory.

    Attributes:
        entries: how many entries were made.
        file_bytes: bytes of file data written.
        warnings: what was left out and why, one text each.
    """

    def __init__(
        self,
        directories: Directories,
        source: Source,
        *,
        owner: Callable[[int, int], tuple[int, int, bool]],
        devices: bool,
        old: list[bytes] | None = None,
        new: list[bytes] | None = None,
        wrote: Callable[[int], None] = lambda size: None,
        foreign: Callable[[os.stat_result], bool] = lambda found: False,
    ) -> None:
        """Prepare to read `source`.

        Args:
            directories: opens what is written to.
            owner: the (uid, gid) on disk for one in the archive, and whether they are the same users. Where they are not,
                no set-id bit and no file capability is kept, for it would speak for another than it was meant for.
            devices: make device nodes; left out with a warning otherwise.
            old: how all names must begin, at most one part; None lets them begin as they want.
            new: what they begin with instead.
            wrote: told how many bytes of file data were written, each time.
            foreign: tells of what was found whether it belongs to none of those that the copy speaks for. Such a directory is
                written to only where everybody may, and what is such is never changed.
        """
        self._foreign = foreign
        self._directories = directories
        self._source = source
        self._owner = owner
        self._devices = devices
        self._old = old
        self._new = new or []
        self._wrote = wrote
        self._parent = -1
        self._parent_path = b""
        self._dated: dict[bytes, Entry] = {}
        self.entries = 0
        self.file_bytes = 0
        self.warnings: list[str] = []

    def run(self, entries: Iterator[Entry]) -> None:
        """Make all `entries`, then give directories their owner, mode and time.

        Raises:
            ArchiveError: an entry that would lead out, or means nothing.
            InvalidArgument: a directory would replace something else, or something else a directory.
            DamagedError: the archive ends too early.
            OSError: the system refuses; its file name is the entry's.
        """
        try:
            for entry in entries:
                path = self._path(entry.name)
                self.entries += 1
                if not path:
                    self._source.skip(entry.size_bytes)  # the directory itself, which belongs to whoever made it
                    continue
                try:
                    self._make(path, entry)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
            for path, entry in reversed(self._dated.items()):
                self._finish(path, entry)
        finally:
            self._leave()

    def _path(self, name: bytes) -> bytes:
        """Return where an entry goes, relative and clean."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts or b"\0" in name:
            raise ArchiveError(f"tar entry {show(name)}: leads out of the directory")
        if self._old is None:
            return b"/".join(parts)
        count = len(self._old)
        if parts[:count] != self._old:
            raise ArchiveError(f"tar entry {show(name)}: does not belong to what was asked for")
        return b"/".join([*self._new, *parts[count:]])

    def _make(self, path: bytes, entry: Entry) -> None:
        above, _, base = path.rpartition(b"/")
        parent = self._enter(above)
        found = _found(parent, base)
        is_directory = found is not None and stat.S_ISDIR(found.st_mode)
        if entry.kind == tar.DIRECTORY:
            if found is not None and not is_directory:
                raise InvalidArgument(f"cannot overwrite {show(path)}, which is no directory, with a directory")
            if found is None:
                os.mkdir(base, 0o700, dir_fd=parent)
            self._dated[path] = entry
        elif is_directory:
            raise InvalidArgument(f"cannot overwrite directory {show(path)} with something else")
        elif entry.kind == tar.FILE:
            self._file(parent, base, entry, taken=found is not None)
        else:
            self._node(parent, base, entry, path)

    # directories

    def _enter(self, path: bytes) -> int:
        """Return a descriptor of the directory at `path`, made where it is missing; it stays open until another is."""
        if self._parent >= 0 and self._parent_path == path:
            return self._parent
        self._leave()
        try:
            self._parent = self._directories.open(path, _PATH)
        except FileNotFoundError:
            self._make_above(path)
            self._parent = self._directories.open(path, _PATH)
        except NotADirectoryError:
            raise InvalidArgument(f"cannot write below {show(path)}: it is not a directory") from None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EXDEV):
                raise
            raise ArchiveError(f"tar entry below {show(path)}: a symbolic link is in the way") from None
        found = os.fstat(self._parent)
        if not found.st_mode & stat.S_IWOTH and self._foreign(found):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._parent_path = path
        return self._parent

    def _leave(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1

    def _make_above(self, path: bytes) -> None:
        above, _, base = path.rpartition(b"/")
        if not base:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        parent = self._enter(above)
        try:
            os.mkdir(base, _NEW_MODE, dir_fd=parent)
        except FileExistsError:
            pass  # a link that leads nowhere: opening it says so
        self._leave()

    def _finish(self, path: bytes, entry: Entry) -> None:
        try:
            fd = self._directories.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
        try:
            self._check_own(os.fstat(fd))
            os.fchown(fd, *self._owner(entry.uid, entry.gid)[:2])
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
        finally:
            os.close(fd)

    def _check_own(self, found: os.stat_result) -> None:
        if self._foreign(found):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    # files

    def _fill(self, fd: int, entry: Entry) -> None:
        """Write the data that comes next in the archive, each piece of a file with holes in its place."""
        for offset, size_bytes in entry.sparse.extents if entry.sparse else ((0, entry.size_bytes),):
            os.lseek(fd, offset, os.SEEK_SET)
            for piece in self._source.pieces(size_bytes):
                self._write(fd, piece)
        if entry.sparse:
            os.ftruncate(fd, entry.sparse.size_bytes)

    def _file(self, parent: int, base: bytes, entry: Entry, *, taken: bool) -> None:
        temporary = b""
        try:
            fd = os.open(b".", _TEMPORARY, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in _NO_TEMPORARY:
                raise
            temporary = _temporary_name()
            fd = os.open(temporary, _NAMED, 0o600, dir_fd=parent)
        try:
            self._fill(fd, entry)
            self._describe(fd, entry)
            if not temporary:
                if not taken and _linked(fd, parent, base):
                    return
                name = _temporary_name()
                link_descriptor(fd, parent, name)
                temporary = name
            os.rename(temporary, base, src_dir_fd=parent, dst_dir_fd=parent)
            temporary = b""
        finally:
            os.close(fd)
            if temporary:
                os.unlink(temporary, dir_fd=parent)

    def _write(self, fd: int, piece: memoryview) -> None:
        size = len(piece)
        while piece:
            piece = piece[os.write(fd, piece) :]
        self.file_bytes += size
        self._wrote(size)

    def _describe(self, fd: int, entry: Entry) -> None:
        """Give a new file its owner, mode, capability and time."""
        uid, gid, same = self._owner(entry.uid, entry.gid)
        made = os.fstat(fd)
        if (made.st_uid, made.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        os.fchmod(fd, entry.mode if same else entry.mode & ~_SET_ID)
        if same and self._devices and CAPABILITY in entry.xattrs:
            os.setxattr(fd, CAPABILITY, entry.xattrs[CAPABILITY])
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    # everything else

    def _node(self, parent: int, base: bytes, entry: Entry, path: bytes) -> None:
        if entry.kind in (tar.CHAR, tar.BLOCK) and not self._devices:
            self.warnings.append(f"{show(path)} is a device and was left out")
            return
        name = _temporary_name()
        try:
            self._make_node(parent, name, entry)
            os.rename(name, base, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            try:
                os.unlink(name, dir_fd=parent)  # two names of one file: renaming one to the other does nothing
            except FileNotFoundError:
                pass

    def _make_node(self, parent: int, name: bytes, entry: Entry) -> None:
        if entry.kind == tar.LINK:
            self._link(parent, name, entry)
            return
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            device = os.makedev(entry.major, entry.minor) if entry.kind != tar.FIFO else 0
            os.mknod(name, _DEVICE_TYPES[entry.kind] | entry.mode & 0o777, device, dir_fd=parent)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            made = os.fstat(fd)
            self._check_own(made)  # somebody may have put another in its place
            uid, gid, _ = self._owner(entry.uid, entry.gid)
            if (made.st_uid, made.st_gid) != (uid, gid):
                chown_descriptor(fd, uid, gid)
            date_descriptor(fd, entry.mtime_ns)
            if entry.kind == tar.SYMLINK:
                self._directories.made_link(made)
        finally:
            os.close(fd)

    def _link(self, parent: int, name: bytes, entry: Entry) -> None:
        target = self._path(entry.link)
        above, _, base = target.rpartition(b"/")
        try:
            directory = self._directories.open(above, _PATH)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EXDEV):
                raise
            raise ArchiveError(f"tar entry {show(entry.name)}: a symbolic link is in its target's way") from None
        try:
            os.link(base, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)


def _found(parent: int, base: bytes) -> os.stat_result | None:
    try:
        return os.stat(base, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _linked(fd: int, parent: int, base: bytes) -> bool:
    try:
        link_descriptor(fd, parent, base)
    except FileExistsError:
        return False
    return True


def _temporary_name() -> bytes:
    return b".hythe-cp-" + os.urandom(8).hex().encode()
