"""Apply the entries of a layer to the current root: what each means for the directory that overlayfs will stack.

Runs inside a chroot, so absolute links and ``..`` end at that root whatever an archive says. Whiteouts become overlay's
own marks (character device 0:0, ``trusted.overlay.opaque``), for the layer lies in a directory of its own. In the lowest
layer they mean nothing and leave nothing, for overlayfs would show such a mark where nothing lies below.

Spec: OCI image-spec, "Image Layer Filesystem Changeset"; where it is silent, containerd's applier is followed.
"""

# Names in an archive are bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH211

from __future__ import annotations

import errno
import os
import stat

from hythe.archive import tar
from hythe.archive.failures import ArchiveError, LimitError
from hythe.archive.stream import Source
from hythe.archive.tar import Entry, show
from hythe_bundle.worker.tree import Tree, mark_opaque, real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from hythe.archive.sparse import Sparse

    class Watch(Protocol):
        """Looks after what is written."""

        def wrote(self, fd: int, size: int) -> None:
            """Take note of `size` bytes written to `fd`."""

        def check_room(self) -> None:
            """Return if more may be written.

            Raises:
                ReserveError: less than the reserve is free.
            """


WHITEOUT_PREFIX = b".wh."
_META_PREFIX = b".wh..wh."
_OPAQUE_NAME = b".wh..wh..opq"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ELF_32 = b"\x7fELF\x01"
_HOST_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
_ENTRIES_BETWEEN_CHECKS = 1024
_LEAST_EXTENT_BYTES = 4096
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Layer:
    """What applying a layer found out.

    Attributes:
        entries: how many entries the archive has.
        file_bytes: bytes of file data written; a hole has none.
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

    def __init__(self, source: Source, watch: Watch, *, max_entries: int, max_bytes: int, lowest: bool) -> None:
        """Prepare to apply what `source` holds.

        Args:
            source: the uncompressed archive.
            watch: told what is written.
            max_entries: most entries allowed.
            max_bytes: most bytes of all files with holes, holes included.
            lowest: whether nothing lies below.
        """
        self._source = source
        self._watch = watch
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lowest = lowest
        self._sparse_bytes = 0
        self._tree = Tree()
        self.layer = Layer()

    def apply(self, entries: Iterator[Entry]) -> Layer:
        """Apply all `entries` in order, then set the times of directories, which making files in them has moved.

        Raises:
            ArchiveError: an entry that cannot mean anything, or tries to use a non-directory as a directory.
            LimitError: more entries than allowed, or larger files with holes.
            ReserveError: see `Watch.check_room`.
            OSError: the kernel refuses, e.g. a full disk.
        """
        layer = self.layer
        for entry in entries:
            layer.entries += 1
            if layer.entries > self._max_entries:
                raise LimitError(f"the layer has more than {self._max_entries} entries")
            if layer.entries % _ENTRIES_BETWEEN_CHECKS == 0:
                self._watch.check_room()
            path = clean(entry.name)
            if not path:
                self._source.skip(entry.size_bytes)  # the root directory belongs to the container, not to a layer
                continue
            try:
                self._apply(path, entry)
            except OSError as error:
                if error.errno in _HOST_ERRORS:
                    raise
                raise ArchiveError(f"tar entry {show(entry.name)}: {error.strerror}") from error
        layer.implied = self._tree.finish()
        return layer

    def _apply(self, path: bytes, entry: Entry) -> None:
        parent, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT_PREFIX):
            self._source.skip(entry.size_bytes)
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
            self._place(path, entry)
        except (FileNotFoundError, NotADirectoryError):
            if kind == tar.LINK:
                entry.link = self._link_target(entry)
            self._place(self._tree.with_parents(path), entry)

    def _place(self, path: bytes, entry: Entry) -> None:
        try:
            self._node(path, entry)
        except FileExistsError:
            self._tree.remove(path)
            self._node(path, entry)

    # regular files

    def _file(self, path: bytes, entry: Entry) -> None:
        try:
            fd = self._create(path, entry.mode)
        except (FileNotFoundError, NotADirectoryError):
            fd = self._create(self._tree.with_parents(path), entry.mode)
        try:
            if entry.sparse:
                self._write_sparse(fd, entry.sparse)
            elif entry.size_bytes:
                self._write(fd, entry.size_bytes)
            if entry.uid or entry.gid or self._tree.inherits_group:
                os.fchown(fd, entry.uid, entry.gid)
                if entry.mode & 0o6000:
                    os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
                os.fchmod(fd, entry.mode)  # after an access control list, which has a say in it
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _create(self, path: bytes, mode: int) -> int:
        try:
            return os.open(path, _NEW_FILE, mode)
        except FileExistsError:
            self._tree.remove(path)
            return os.open(path, _NEW_FILE, mode)

    def _write_sparse(self, fd: int, sparse: Sparse) -> None:
        """Write a file with holes, which take no room on the disk but do wherever it is copied to."""
        self._sparse_bytes += sparse.size_bytes
        if self._sparse_bytes > self._max_bytes:
            raise LimitError(f"the layer has more than {self._max_bytes} bytes in files with holes")
        for offset, length in sparse.extents:
            os.lseek(fd, offset, os.SEEK_SET)
            self._write(fd, length)
            self._watch.wrote(fd, _LEAST_EXTENT_BYTES)
        os.ftruncate(fd, sparse.size_bytes)

    def _write(self, fd: int, size: int) -> None:
        first = True
        for piece in self._source.pieces(size):
            if first and piece[:5] == _ELF_32:
                self.layer.elf_32 = True
            first = False
            length = len(piece)
            while piece:
                piece = piece[os.write(fd, piece) :]
            self._watch.wrote(fd, length)
        self.layer.file_bytes += size

    # everything else

    def _directory(self, path: bytes, entry: Entry) -> None:
        path, fresh = self._tree.named(path, entry.mode)
        if not fresh or entry.uid or entry.gid or self._tree.inherits_group:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(path, entry)
        if not fresh or entry.mode & 0o7000 or entry.xattrs or self._tree.inherits_group:
            os.chmod(path, entry.mode)
        if entry.mode & 0o2000:
            self._tree.inherits_group = True
        self._tree.date(path, entry.mtime_ns)

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

    def _link_target(self, entry: Entry) -> bytes:
        """Return the path of a hard link's target with its parent's links resolved, as far as they are there."""
        target = real(clean(entry.link))
        try:
            os.lstat(target)
        except OSError as error:
            raise ArchiveError(
                f"tar entry {show(entry.name)}: hard link to {show(entry.link)}, which is not in this layer"
            ) from error
        return target

    def _white_out(self, parent: bytes, base: bytes) -> None:
        """Turn one whiteout into overlay's mark. What this very layer holds under the name stays: only lower layers lose it."""
        name = base[len(WHITEOUT_PREFIX) :]
        if name in (b"", b".", b".."):
            raise ArchiveError(f"tar entry {show(base)}: not a valid whiteout name")
        if self._lowest or (base.startswith(_META_PREFIX) and base != _OPAQUE_NAME):  # aufs has names of its own there
            if parent:
                self._tree.implied(parent)
            return
        if base == _OPAQUE_NAME:
            directory = self._tree.implied(parent) if parent else b""
            if directory:
                mark_opaque(directory)
            else:
                self.layer.opaque = True
            return
        path = parent + b"/" + name if parent else name
        try:
            os.mknod(path, stat.S_IFCHR, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                mark_opaque(path)
        except (FileNotFoundError, NotADirectoryError):
            os.mknod(self._tree.with_parents(path), stat.S_IFCHR, 0)

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
