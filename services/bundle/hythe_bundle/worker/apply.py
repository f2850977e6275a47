"""Apply the entries of a layer to the current root: what each means for the directory that overlayfs will stack.

Runs inside a chroot, so absolute links and ``..`` end at that root whatever an archive says. Whiteouts become overlay's
own marks (character device 0:0, ``trusted.overlay.opaque``), for the layer lies in a directory of its own.

Spec: OCI image-spec, "Image Layer Filesystem Changeset"; where it is silent, containerd's applier is followed.
"""

# Names in an archive are bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH106, PTH211

from __future__ import annotations

import errno
import os
import stat

from hythe_bundle.worker import tar
from hythe_bundle.worker.failures import ArchiveError, LimitError
from hythe_bundle.worker.stream import Source
from hythe_bundle.worker.tar import Entry, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WHITEOUT_PREFIX = b".wh."
_META_PREFIX = b".wh..wh."
_OPAQUE_NAME = b".wh..wh..opq"
_OPAQUE_XATTR = b"trusted.overlay.opaque"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ELF_32 = b"\x7fELF\x01"
_HOST_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Layer:
    """What applying a layer found out.

    Attributes:
        entries: how many entries the archive has.
        file_bytes: bytes of file data written.
        implied: directories made because something lies in them although the archive doesn't name them, parents first.
        opaque: whether the layer hides everything below it. overlayfs has no mark for that: the stack has to end here.
        elf_32: whether a program or library for a 32-bit processor is among the files.
        ignored_xattrs: extended attributes that this file system or Hythe doesn't take.
    """

    __slots__ = ("elf_32", "entries", "file_bytes", "ignored_xattrs", "implied", "opaque")

    def __init__(self) -> None:
        self.entries = 0
        self.file_bytes = 0
        self.implied: list[bytes] = []
        self.opaque = False
        self.elf_32 = False
        self.ignored_xattrs = 0


class Applier:
    """Makes the files of one layer below the current directory, which is the root."""

    def __init__(self, source: Source, *, max_entries: int, wrote: Callable[[int, int], None]) -> None:
        """Prepare to apply what `source` holds.

        Args:
            source: the uncompressed archive.
            max_entries: most entries allowed.
            wrote: told (descriptor, bytes) after each write of file data, to start write-back and watch space.
        """
        self._source = source
        self._max_entries = max_entries
        self._wrote = wrote
        self._times: dict[bytes, int] = {}
        self._implied: set[bytes] = set()
        self._setgid = False
        self.layer = Layer()

    def apply(self, entries: Iterator[Entry]) -> Layer:
        """Apply all `entries` in order, then set the times of directories, which making files in them has moved.

        Raises:
            ArchiveError: an entry that cannot mean anything, or tries to use a non-directory as a directory.
            LimitError: more entries than allowed.
            OSError: the kernel refuses, e.g. a full disk.
        """
        layer = self.layer
        for entry in entries:
            layer.entries += 1
            if layer.entries > self._max_entries:
                raise LimitError(f"the layer has more than {self._max_entries} entries")
            path = clean(entry.name)
            if not path:
                self._source.skip(entry.size)  # the root directory belongs to the container, not to a layer
                continue
            try:
                self._apply(path, entry)
            except OSError as error:
                if error.errno in _HOST_ERRORS:
                    raise
                raise ArchiveError(f"tar entry {show(entry.name)}: {error.strerror}") from error
        for path, mtime_ns in self._times.items():
            try:
                os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                pass  # removed by a later entry under another name of it
        layer.implied = sorted(self._implied)
        return layer

    def _apply(self, path: bytes, entry: Entry) -> None:
        parent, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT_PREFIX):
            self._source.skip(entry.size)
            self._white_out(parent, base)
            return
        kind = entry.kind
        if kind == tar.FILE:
            self._file(path, entry)
            return
        if kind == tar.DIRECTORY:
            self._directory(path, entry)
            return
        try:
            self._node(path, entry)
        except FileExistsError:
            self._remove(path)
            self._node(path, entry)
        except (FileNotFoundError, NotADirectoryError):
            if kind == tar.LINK:
                self._check_link_target(entry)
            path = self._make_parents(path)
            self._node(path, entry)

    # regular files

    def _file(self, path: bytes, entry: Entry) -> None:
        try:
            fd = os.open(path, _NEW_FILE, entry.mode)
        except FileExistsError:
            self._remove(path)
            fd = os.open(path, _NEW_FILE, entry.mode)
        except (FileNotFoundError, NotADirectoryError):
            path = self._make_parents(path)
            fd = os.open(path, _NEW_FILE, entry.mode)
        try:
            if entry.size:
                self._write(fd, entry.size)
            if entry.uid or entry.gid or self._setgid:
                os.fchown(fd, entry.uid, entry.gid)
                if entry.mode & 0o6000:
                    os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _write(self, fd: int, size: int) -> None:
        first = True
        for piece in self._source.pieces(size):
            if first and piece[:5] == _ELF_32:
                self.layer.elf_32 = True
            first = False
            length = len(piece)
            while piece:
                piece = piece[os.write(fd, piece) :]
            self._wrote(fd, length)
        self.layer.file_bytes += size

    # everything else

    def _directory(self, path: bytes, entry: Entry) -> None:
        fresh = True
        try:
            os.mkdir(path, entry.mode)
        except FileExistsError:
            fresh = self._directory_over(path, entry.mode)
        except (FileNotFoundError, NotADirectoryError):
            path = self._make_parents(path)
            os.mkdir(path, entry.mode)
        if self._implied:
            self._implied.discard(path if fresh else self._real(path))
        if not fresh or entry.uid or entry.gid or self._setgid:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if not fresh or entry.mode & 0o7000 or self._setgid:
            os.chmod(path, entry.mode)
        if entry.mode & 0o2000:
            self._setgid = True
        if entry.xattrs:
            self._set_xattrs(path, entry)
        self._times[path] = entry.mtime_ns

    def _directory_over(self, path: bytes, mode: int) -> bool:
        """Make a directory where something is; return whether it is new. A directory stays, anything else gives way."""
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode):
            return False
        os.unlink(path)
        os.mkdir(path, mode)
        if _is_whiteout(found):
            os.setxattr(path, _OPAQUE_XATTR, b"y", follow_symlinks=False)
        return True

    def _node(self, path: bytes, entry: Entry) -> None:
        if entry.kind == tar.SYMLINK:
            if not entry.link:
                raise ArchiveError(f"tar entry {show(entry.name)}: a symbolic link to nothing")
            os.symlink(entry.link, path)
        elif entry.kind == tar.LINK:
            os.link(entry.link.lstrip(b"/"), path, follow_symlinks=False)
        else:
            device = os.makedev(entry.major & 0xFFFFFFFF, entry.minor & 0xFFFFFFFF)
            os.mknod(path, _DEVICE_TYPES[entry.kind] | entry.mode, 0 if entry.kind == tar.FIFO else device)
        is_link = entry.kind == tar.SYMLINK or (entry.kind == tar.LINK and stat.S_ISLNK(os.lstat(path).st_mode))
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(path, entry)
        if not is_link:
            os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _check_link_target(self, entry: Entry) -> None:
        try:
            os.lstat(entry.link)
        except OSError as error:
            raise ArchiveError(
                f"tar entry {show(entry.name)}: hard link to {show(entry.link)}, which is not in this layer"
            ) from error

    def _white_out(self, parent: bytes, base: bytes) -> None:
        """Turn one whiteout into overlay's mark. What this very layer holds under the name stays: only lower layers lose it."""
        if base == _OPAQUE_NAME:
            real = self._make_directory(parent) if parent else b""
            if real:
                os.setxattr(real, _OPAQUE_XATTR, b"y", follow_symlinks=False)
            else:
                self.layer.opaque = True
            return
        name = base[len(WHITEOUT_PREFIX) :]
        if base.startswith(_META_PREFIX) or name in (b"", b".", b".."):
            raise ArchiveError(f"tar entry {show(base)}: not a valid whiteout name")
        path = parent + b"/" + name if parent else name
        try:
            os.mknod(path, stat.S_IFCHR, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.setxattr(path, _OPAQUE_XATTR, b"y", follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            os.mknod(self._make_parents(path), stat.S_IFCHR, 0)

    # paths

    def _make_parents(self, path: bytes) -> bytes:
        """Make the directories above `path` that are missing; return `path` with its parent's links resolved."""
        parent, _, base = path.rpartition(b"/")
        resolved = self._make_directory(parent) if parent else b""
        return resolved + b"/" + base if resolved else base

    def _real(self, path: bytes) -> bytes:
        parent, _, base = path.rpartition(b"/")
        return (os.path.realpath(b"/" + parent) + b"/" + base).lstrip(b"/")

    def _make_directory(self, path: bytes) -> bytes:
        """Make directory `path` and those above it where missing; return its real path. Links lead where they lead here."""
        real = os.path.realpath(b"/" + path).lstrip(b"/")
        made = b""
        for part in real.split(b"/") if real else ():
            made = made + b"/" + part if made else part
            try:
                os.mkdir(made, 0o755)
            except FileExistsError:
                found = os.lstat(made)
                if stat.S_ISDIR(found.st_mode):
                    continue
                if not _is_whiteout(found):
                    raise ArchiveError(f"tar entry below {show(path)}: {show(made)} is not a directory") from None
                self._directory_over(made, 0o755)
            if self._setgid:
                os.chown(made, 0, 0, follow_symlinks=False)
                os.chmod(made, 0o755)
            self._implied.add(made)
        return real

    def _remove(self, path: bytes) -> None:
        """Remove what stands where an entry goes, with all below it; a later entry of one archive wins."""
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        below = path + b"/"
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
        for known in [known for known in self._times if known == path or known.startswith(below)]:
            del self._times[known]
        self._implied = {known for known in self._implied if known != path and not known.startswith(below)}

    def _set_xattrs(self, target: int | bytes, entry: Entry) -> None:
        """Set an entry's extended attributes, but for ``trusted.*``: those are overlay's own, and an image may not forge them."""
        for name, value in entry.xattrs.items():
            if name.startswith(b"trusted."):
                self.layer.ignored_xattrs += 1
                continue
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                unfit = error.errno == errno.EPERM and name.startswith(b"user.") and entry.kind != tar.FILE
                if error.errno != errno.EOPNOTSUPP and not unfit:
                    raise
                self.layer.ignored_xattrs += 1


def clean(name: bytes) -> bytes:
    """Return an entry's name as a relative path without ``.``, ``..`` and doubled slashes; empty for the root itself.

    ``..`` takes back the name before it and stops at the root, by the letters alone, as containerd does.
    """
    if b"." not in name and b"//" not in name:
        return name.strip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
