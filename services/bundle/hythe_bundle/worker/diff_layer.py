"""A layer's archive made of what one tree changes of another."""

from __future__ import annotations

import os
import stat

from hythe.archive import tar
from hythe.archive.failures import LimitError
from hythe.archive.pack import KINDS, entry_of
from hythe.archive.tar import MAX_PATH_BYTES, Entry, show
from hythe.archive.writer import END_MARK, header, padding
from hythe_bundle.worker.diff_tree import READ_BYTES, Root, read_up_to
from hythe_bundle.worker.diff_walk import DELETED, OPAQUE, SAME, Event
from hythe_bundle.worker.marks import OPAQUE_NAME, WHITEOUT_PREFIX, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class ChangedError(Exception):
    """A file became shorter while it was read, after its size was written; the text names it."""

    kind = "changed"


class LayerWriter:
    """Writes events as entries: whiteouts for what is gone, links where several names of a file are in the layer.

    Attributes:
        entries: how many were written.

    Spec: OCI image-spec, "Image Layer Filesystem Changeset"; where it is silent, containerd's ``archive.ChangeWriter``.
    """

    def __init__(self, tree: Root, write: Callable[[bytes], None], *, latest_ns: int | None) -> None:
        """Write by `write` what is in `tree`.

        Args:
            latest_ns: times that are later become this one; None keeps all.
        """
        self._tree = tree
        self._write = write
        self._latest_ns = latest_ns
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._unchanged: dict[tuple[int, int], list[bytes]] = {}
        self._parents: set[bytes] = set()
        self.entries = 0

    def take(self, events: Iterable[Event]) -> None:
        """Write the whole archive.

        Raises:
            ArchiveError: a name or device that no archive can hold.
            LimitError: a path or the extended attributes of a file are too long for one.
            ChangedError: see there.
            OSError: the disk fails.
        """
        for event in events:
            self._take(event)
        self._write(END_MARK)

    def _take(self, event: Event) -> None:
        if event.kind == DELETED:
            parent, slash, base = event.path.rpartition(b"/")
            self._whiteout(parent + slash + WHITEOUT_PREFIX + base)
            return
        if event.kind == OPAQUE:
            self._whiteout(event.path + b"/" + OPAQUE_NAME)
            return
        found = event.found
        assert found is not None
        if stat.S_IFMT(found.st_mode) not in KINDS:
            return  # a socket: no archive can hold one
        inode = (found.st_dev, found.st_ino)
        linked = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
        first = self._first_names.get(inode) if linked else None
        if event.kind == SAME and first is None:
            self._unchanged.setdefault(inode, []).append(event.path)
            return
        entry = self._entry(event, found)
        if entry is None:
            self._vanished(event)
        elif first is not None:
            if event.kind == SAME:
                self._put_parents(event.path)
            self._link(entry, event.path, first)
        elif entry.kind == tar.FILE:
            self._file(event, entry, inode if linked else None)
        else:
            self._put(entry)
            if linked:
                self._names(entry, inode)

    def _entry(self, event: Event, found: os.stat_result) -> Entry | None:
        """Return the header of what an event has found; None if it vanished."""
        check_name(event.path)
        assert event.directory is not None
        entry = self._described(event.path, found)
        if entry.kind == tar.SYMLINK:
            link = event.directory.link(event.name)
            if link is None:
                return None
            entry.link = link
        entry.xattrs = event.directory.xattrs(event.name)
        if sum(len(key) + len(value) for key, value in entry.xattrs.items()) > tar.MAX_EXTENSION_BYTES // 2:
            raise LimitError(f"the extended attributes of {show(event.path)} are too long for an archive")
        return entry

    def _described(self, path: bytes, found: os.stat_result) -> Entry:
        entry = entry_of(path, found)
        entry.mtime_ns = self._time(found.st_mtime_ns)
        return entry

    def _time(self, time_ns: int) -> int:
        return time_ns if self._latest_ns is None else min(time_ns, self._latest_ns)

    def _file(self, event: Event, entry: Entry, inode: tuple[int, int] | None) -> None:
        """Write a file as it is when it is opened: what it grows by later is left out."""
        assert event.directory is not None
        fd = event.directory.open_file(event.name)
        if fd is None:
            self._vanished(event)
            return
        try:
            found = os.fstat(fd)
            xattrs, entry = entry.xattrs, self._described(event.path, found)
            entry.xattrs = xattrs
            data = read_up_to(fd, min(found.st_size, READ_BYTES)) if found.st_size else b""
            entry.size_bytes = found.st_size if found.st_size > READ_BYTES else len(data)
            self._put(entry)
            left = entry.size_bytes
            while data:
                self._write(data)
                left -= len(data)
                data = read_up_to(fd, min(left, READ_BYTES)) if left else b""
            if left:
                raise ChangedError(f"{show(event.path)} became shorter while it was read")
            self._write(padding(entry.size_bytes))
        finally:
            os.close(fd)
        if inode is not None:
            self._names(entry, inode)

    def _names(self, entry: Entry, inode: tuple[int, int]) -> None:
        """Remember the first name of a file, and write the unchanged ones that came before as links to it."""
        self._first_names[inode] = entry.name
        first = entry.name
        for path in self._unchanged.pop(inode, ()):
            self._put_parents(path)
            self._link(entry, path, first)

    def _link(self, entry: Entry, path: bytes, first: bytes) -> None:
        entry.name, entry.kind, entry.link, entry.size_bytes = path, tar.LINK, first, 0
        self._put(entry)

    def _put_parents(self, path: bytes) -> None:
        """Write the directories above an unchanged file, which the walk need not have told of; twice is harmless."""
        parts = path.split(b"/")[:-1]
        for count in range(1, len(parts) + 1):
            above = b"/".join(parts[:count])
            if above in self._parents:
                continue
            self._parents.add(above)
            holder = self._tree.directory(b"/".join(parts[: count - 1]))
            if holder is None:
                return
            try:
                found = holder.stat(parts[count - 1])
                if found is None or not stat.S_ISDIR(found.st_mode):
                    return
                entry = self._entry(Event(SAME, above, found, holder, parts[count - 1]), found)
            finally:
                holder.close()
            if entry is not None:
                self._put(entry)

    def _vanished(self, event: Event) -> None:
        """Say that a name is gone which was there a moment ago."""
        if event.replaces and event.kind != SAME:
            parent, slash, base = event.path.rpartition(b"/")
            self._whiteout(parent + slash + WHITEOUT_PREFIX + base)

    def _whiteout(self, name: bytes) -> None:
        entry = Entry()
        entry.name = name
        entry.mtime_ns = self._time(0)
        self._put(entry)

    def _put(self, entry: Entry) -> None:
        if len(entry.name) > MAX_PATH_BYTES or len(entry.link) > MAX_PATH_BYTES:
            raise LimitError(f"the path {show(entry.name)} is longer than {MAX_PATH_BYTES} bytes")
        self.entries += 1
        self._write(header(entry))
