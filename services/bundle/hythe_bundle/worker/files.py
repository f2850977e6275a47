"""Regular files of a layer: made, and filled with the data that comes next in the archive."""

# Names in an archive are bytes, which pathlib does not take.

from __future__ import annotations

import os

from hythe.archive.failures import LimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe.archive.sparse import Sparse
    from hythe.archive.stream import Source
    from hythe.archive.tar import Entry
    from hythe_bundle.worker.layer import Layer, Watch
    from hythe_bundle.worker.tree import Tree

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ELF_32 = b"\x7fELF\x01"
_LEAST_EXTENT_BYTES = 4096


class Files:
    """Makes and fills files; the tree's promises about paths are those of `Tree`."""

    def __init__(self, source: Source, tree: Tree, layer: Layer, watch: Watch, max_bytes: int) -> None:
        """Take data from `source`; all files with holes have at most `max_bytes`, holes included."""
        self._source = source
        self._tree = tree
        self._layer = layer
        self._watch = watch
        self._max_bytes = max_bytes
        self._sparse_bytes = 0

    def create(self, path: bytes, mode: int) -> int:
        """Make a new file in place of whatever is there; return its descriptor."""
        try:
            return os.open(path, _NEW_FILE, mode)
        except FileExistsError:
            self._tree.remove(path)
            return os.open(path, _NEW_FILE, mode)

    def write(self, fd: int, entry: Entry) -> None:
        """Write the data of `entry`, which comes next in the archive.

        Raises:
            LimitError: files with holes are larger than allowed, counted with their holes: those take no room here, but do
                wherever a file is copied to.
            ReserveError: see `Watch.check_room`.
            DamagedError: the archive ends before.
        """
        if entry.sparse:
            self._write_sparse(fd, entry.sparse)
        elif entry.size_bytes:
            self._write(fd, entry.size_bytes)

    def _write_sparse(self, fd: int, sparse: Sparse) -> None:
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
                self._layer.elf_32 = True
            first = False
            length = len(piece)
            while piece:
                piece = piece[os.write(fd, piece) :]
            self._watch.wrote(fd, length)
        self._layer.file_bytes += size
