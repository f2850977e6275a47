"""Whiteouts: what the layer removes from those below it. What this very layer has under such a name stays.

Spec: OCI image-spec, "Image Layer Filesystem Changeset", Whiteouts.
"""

# Names in an archive are bytes, which pathlib does not take.

from __future__ import annotations

import os
import stat

from hythe.archive.failures import ArchiveError
from hythe.archive.tar import show
from hythe_bundle.worker.marks import OPAQUE_NAME, WHITEOUT_PREFIX, is_whiteout
from hythe_bundle.worker.tree import mark_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe_bundle.worker.layer import Layer
    from hythe_bundle.worker.tree import Tree

_META_PREFIX = b".wh..wh."


class Whiteouts:
    """Makes overlay's own marks: a character device 0:0 for a name, ``trusted.overlay.opaque`` for all in a directory.

    In the lowest layer whiteouts mean nothing and leave nothing, for overlayfs shows a mark where nothing lies below.
    """

    def __init__(self, tree: Tree, layer: Layer, *, lowest: bool) -> None:
        self._tree = tree
        self._layer = layer
        self._lowest = lowest
        self._marks: list[bytes] = []

    def mark(self, parent: bytes, base: bytes) -> None:
        """Turn one whiteout, the entry `base` in the directory `parent`, into overlay's mark.

        Raises:
            ArchiveError: it is of the directory itself or its parent.
        """
        name = base[len(WHITEOUT_PREFIX) :]
        if name in (b"", b".", b".."):
            raise ArchiveError(f"tar entry {show(base)}: not a valid whiteout name")
        if self._lowest or (base.startswith(_META_PREFIX) and base != OPAQUE_NAME):  # aufs has names of its own there
            if parent:
                self._tree.implied(parent)
            return
        if base == OPAQUE_NAME:
            directory = self._tree.implied(parent) if parent else b""
            if directory:
                mark_opaque(directory)
            else:
                self._layer.opaque = True
            return
        path = parent + b"/" + name if parent else name
        try:
            self._mark_gone(path)
        except (FileNotFoundError, NotADirectoryError):
            self._mark_gone(self._tree.with_parents(path))

    def _mark_gone(self, path: bytes) -> None:
        try:
            os.mknod(path, stat.S_IFCHR, 0)
            self._marks.append(path)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                mark_opaque(path)

    def finish(self) -> None:
        """Remove the whiteouts of a layer that hides everything below it, whose marks would show."""
        if not self._layer.opaque:
            return
        for path in self._marks:
            try:
                if is_whiteout(os.lstat(path)):
                    os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                pass  # replaced by a later entry
