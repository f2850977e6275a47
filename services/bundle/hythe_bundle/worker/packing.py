"""Writing a tree as an archive, plainly: each entry is itself, no name in it means anything else."""

from __future__ import annotations

import os
import stat

from hythe.archive import tar, writer
from hythe.archive.failures import ArchiveError, LimitError
from hythe.archive.tar import Entry, show
from hythe_bundle.worker.copying import GONE
from hythe_bundle.worker.walk import ENTER, FILE, LEAVE, Walk, name_in, xattrs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hythe_bundle.worker.walk import Step

READ_BYTES = 1 << 20
WHITEOUT_PREFIX = b".wh."
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCK,
    stat.S_IFIFO: tar.FIFO,
}


class Pack:
    """One archive being written.

    Attributes:
        file_bytes: bytes of file data packed.
        sockets: how many were left out: no archive holds one.
        walk: how the tree was walked.
    """

    def __init__(
        self, top: int, write: Callable[[bytes], None], *, prefix: bytes, as_layer: bool, epoch_s: int | None
    ) -> None:
        """Prepare to pack what lies in the open directory `top`.

        Args:
            prefix: name of the top in the archive; empty for ``.``.
            as_layer: refuse names that mean something else in a layer.
            epoch_s: no time in the archive is later.
        """
        self.walk = Walk(top)
        self.file_bytes = 0
        self.sockets = 0
        self._write = write
        self._prefix = prefix
        self._as_layer = as_layer
        self._latest_ns = None if epoch_s is None else epoch_s * 1_000_000_000
        self._first: dict[tuple[int, int], bytes] = {}

    def run(self, files: Mapping[str, bytes]) -> None:
        """Write `files` first, small ones by name, then the tree, then the end of the archive.

        Raises:
            ArchiveError: a name means something else in a layer.
            LimitError: a path is longer than an archive may hold.
            OSError: something can't be read or written.
        """
        for name, data in files.items():
            self._small(name.encode(), data)
        for step in self.walk.steps():
            if step.kind == ENTER:
                entry = self._entry(step.path, step.found)
                entry.xattrs = _encoded(xattrs_of(step.directory))
                self._write(writer.header(entry))
            elif step.kind != LEAVE:
                self._name(step)
        self._write(writer.END_MARK)

    def _small(self, name: bytes, data: bytes) -> None:
        entry = Entry()
        entry.name, entry.mode, entry.size_bytes = name, 0o644, len(data)
        self._write(writer.header(entry) + data + writer.padding(len(data)))

    def _name(self, step: Step) -> None:
        found = step.found
        if stat.S_ISSOCK(found.st_mode):
            self.sockets += 1
            return
        if found.st_nlink > 1:
            first = self._first.setdefault((found.st_dev, found.st_ino), step.path)
            if first != step.path:
                entry = self._entry(step.path, found)
                entry.kind, entry.link, entry.size_bytes = tar.LINK, self._placed(first), 0
                self._write(writer.header(entry))
                return
        try:
            if stat.S_ISREG(found.st_mode):
                self._file(step)
                return
            entry = self._entry(step.path, found)
            if entry.kind == tar.SYMLINK:
                entry.link = os.readlink(step.name, dir_fd=step.directory)
        except OSError as error:
            if error.errno not in GONE:
                raise
            self._lose(step)
            return
        if entry.kind in (tar.CHAR, tar.BLOCK):
            entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        entry.xattrs = _encoded(xattrs_of(name_in(step.directory, step.name)))
        self._write(writer.header(entry))

    def _file(self, step: Step) -> None:
        fd = os.open(step.name, FILE, dir_fd=step.directory)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                self._lose(step)
                return
            entry = self._entry(step.path, found)
            entry.size_bytes = left = found.st_size
            entry.xattrs = _encoded(xattrs_of(fd))
            self._write(writer.header(entry))
            while left and (data := os.read(fd, min(left, READ_BYTES))):
                left -= len(data)
                self._write(data)
            self.file_bytes += found.st_size
            if left:
                self.walk.changed += 1
            while left:  # somebody has shortened it meanwhile
                data = bytes(min(left, READ_BYTES))
                left -= len(data)
                self._write(data)
            self._write(writer.padding(found.st_size))
        finally:
            os.close(fd)

    def _lose(self, step: Step) -> None:
        """Note that a name is gone; a second name of the same file stands for it then."""
        self.walk.changed += 1
        self._first.pop((step.found.st_dev, step.found.st_ino), None)

    def _entry(self, path: bytes, found: os.stat_result) -> Entry:
        entry = Entry()
        if self._as_layer and path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
            raise ArchiveError(f"{show(path)} would hide another file in a layer; a packed file can hold it")
        entry.name = self._placed(path)
        if len(entry.name) >= tar.MAX_PATH_BYTES:
            raise LimitError(f"{show(path)} is longer than the {tar.MAX_PATH_BYTES} bytes of a path in an archive")
        entry.kind = _KINDS[stat.S_IFMT(found.st_mode)]
        entry.mode = stat.S_IMODE(found.st_mode)
        entry.uid, entry.gid = found.st_uid, found.st_gid
        entry.mtime_ns = max(0, found.st_mtime_ns)
        if self._latest_ns is not None:
            entry.mtime_ns = min(entry.mtime_ns, self._latest_ns)
        return entry

    def _placed(self, path: bytes) -> bytes:
        if not self._prefix:
            return path or b"."
        return self._prefix + b"/" + path if path else self._prefix


def _encoded(xattrs: dict[str, bytes]) -> dict[bytes, bytes]:
    return {os.fsencode(name): value for name, value in xattrs.items()}
