"""What a directory that a layer needs but doesn't describe looks like: as it does in what lies below (ARCHITECTURE §5)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hythe.linux import files
from hythe_bundle.adapters import merged
from hythe_bundle.adapters.directories import ROOT
from hythe_bundle.worker import attributes

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def inherit(layer: Path, implied: Sequence[bytes], lower: Sequence[Path]) -> None:
    """Give each directory of `implied` the owner, mode, extended attributes and times that it has below `layer`.

    Without this, a layer that only adds ``/tmp/x`` would take the sticky bit from ``/tmp``, and one that adds a file to a
    private home would open it to all. A directory that nothing below shows, because there is none or because the layer
    hides it by an opaque mark on a directory above, stays as it is: root's, mode 0755. In a directory that gets the setgid
    bit it gets that group, as if it had been made there.

    Args:
        layer: directory of the layer.
        implied: paths relative to it, parents first.
        lower: directories of the layers below, topmost first.

    Raises:
        OSError: the disk fails.
    """
    if not lower:
        return
    groups: dict[bytes, int] = {}
    top = os.open(layer, _DIRECTORY | os.O_CLOEXEC)
    try:
        for path in implied:
            if _is_hidden(top, path):
                continue
            directory = _open(top, path)
            if directory is None:
                continue  # a later entry of the layer has put something else there
            try:
                with merged.open_directory(lower, path) as pattern:
                    if pattern is not None:
                        found = os.fstat(pattern)
                        attributes.copy(pattern, directory, found, attributes.Inherited())
                        if found.st_mode & stat.S_ISGID:
                            groups[path] = found.st_gid
                    elif (parent := path.rpartition(b"/")[0] or ROOT) in groups:
                        os.fchown(directory, -1, groups[parent])
            finally:
                os.close(directory)
    finally:
        os.close(top)


def _is_hidden(top: int, path: bytes) -> bool:
    """Tell whether the layer hides what lies below at `path`, by an opaque mark on a directory above it."""
    parts = path.split(b"/")
    for count in range(1, len(parts)):
        directory = _open(top, b"/".join(parts[:count]))
        if directory is None:
            return True
        try:
            if merged.is_opaque(directory):
                return True
        finally:
            os.close(directory)
    return False


def _open(top: int, path: bytes) -> int | None:
    """Open a directory of the layer; None if none is there."""
    try:
        return files.open_beneath(top, path, _DIRECTORY)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return None
