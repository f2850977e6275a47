"""Apply the entries of a layer to the current root: what each means for the directory that overlayfs will stack.

Runs inside a chroot, so absolute links and ``..`` end at that root whatever an archive says. The layer lies in a
directory of its own, not in what it changes.

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
from hythe.archive.tar import show
from hythe_bundle.worker.files import Files
from hythe_bundle.worker.layer import Layer
from hythe_bundle.worker.marks import WHITEOUT_PREFIX
from hythe_bundle.worker.paths import real
from hythe_bundle.worker.tree import Tree
from hythe_bundle.worker.whiteouts import Whiteouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hythe.archive.stream import Source
    from hythe.archive.tar import Entry
    from hythe_bundle.worker.layer import Watch

_HOST_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
_ENTRIES_BETWEEN_CHECKS = 1024
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Applier:
    """Makes the files of one layer below the current directory, which is the root.

    Attributes:
        whiteouts: whether names that begin with ``.wh.`` take something away, as in a layer.
    """

    whiteouts = True

    def __init__(self, source: Source, watch: Watch, *, max_entries: int, max_bytes: int, lowest: bool) -> None:
        """Prepare to apply what `source` holds.

        Args:
            source: the uncompressed archive.
            watch: told what is written.
            max_entries: most entries allowed, directories included that only lie on the way to one.
            max_bytes: most bytes of all files with holes, holes included.
            lowest: whether nothing lies below.
        """
        self._source = source
        self._watch = watch
        self._max_entries = max_entries
        self._tree = Tree()
        self.layer = Layer()
        self._files = Files(source, self._tree, self.layer, watch, max_bytes)
        self._whiteouts = Whiteouts(self._tree, self.layer, lowest=lowest)

    def apply(self, entries: Iterator[Entry]) -> Layer:
        """Apply all `entries` in order, then set the times of directories, which making files in them has moved.

        Raises:
            ArchiveError: an entry that cannot mean anything, or tries to use a non-directory as a directory.
            LimitError: more entries than allowed, or larger files with holes.
            ReserveError: see `Watch.check_room`.
            OSError: the kernel refuses, e.g. a full disk.
        """
        layer = self.layer
        next_check = min(_ENTRIES_BETWEEN_CHECKS, self._max_entries + 1)
        for entry in entries:
            layer.entries += 1
            made = layer.entries + self._tree.implied_made
            if made >= next_check:
                if made > self._max_entries:
                    raise LimitError(
                        f"the layer has more than {self._max_entries} entries, unnamed directories included"
                    )
                self._watch.check_room()
                next_check = min(made + _ENTRIES_BETWEEN_CHECKS, self._max_entries + 1)
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
        self._whiteouts.finish()
        layer.implied = self._tree.finish()
        return layer

    def _apply(self, path: bytes, entry: Entry) -> None:
        parent, _, base = path.rpartition(b"/")
        if self.whiteouts and base.startswith(WHITEOUT_PREFIX):
            self._source.skip(entry.size_bytes)
            self._whiteouts.mark(parent, base)
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

    def _file(self, path: bytes, entry: Entry) -> None:
        try:
            fd = self._files.create(path, entry.mode)
        except (FileNotFoundError, NotADirectoryError):
            fd = self._files.create(self._tree.with_parents(path), entry.mode)
        try:
            self._files.write(fd, entry)
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
