"""Looking into stacked layers as overlayfs would show them, without mounting them.

Layers come from strangers: each name is opened by itself, relative to an open directory and never through a link, so
that no path in an image can lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hythe.errors import InvalidArgument
from hythe_bundle.worker.marks import OPAQUE_XATTR, is_whiteout

MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_Directory = tuple[int, ...]
"""One directory of the merged tree: the open directories that make it up, topmost first."""


def read_file(layers: Sequence[Path], path: str, most_bytes: int) -> bytes | None:
    """Return the content of a regular file in the merged tree of `layers`; None if there is no such file.

    Args:
        layers: the layers' directories, topmost first.
        path: absolute path in the tree; links lead where they lead there, ``..`` of the root is the root.
        most_bytes: size above which it is refused.

    Raises:
        InvalidArgument: it is no regular file, or larger than `most_bytes`, or reached by too many links.
        OSError: the disk fails.
    """
    with _walk(layers, os.fsencode(path)) as (directory, name):
        if directory is None:
            return None
        for place in directory:
            try:
                found = os.stat(name, dir_fd=place, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_whiteout(found):
                return None
            if not stat.S_ISREG(found.st_mode):
                raise InvalidArgument(f"read {path} in the image: it is no regular file")
            return _read(place, name, path, most_bytes)
        return None


@contextmanager
def open_directory(layers: Sequence[Path], path: bytes) -> Iterator[int | None]:
    """Open the topmost directory that shows at `path` in the merged tree of `layers`; None if nothing or no directory does.

    The descriptor is closed when the block ends. Arguments and errors are those of `read_file`.
    """
    with _walk(layers, path + b"/.") as (directory, _):
        yield directory[0] if directory else None


def _read(place: int, name: bytes, path: str, most_bytes: int) -> bytes:
    fd = os.open(name, _FILE, dir_fd=place)
    with open(fd, "rb") as file:
        if os.fstat(fd).st_size > most_bytes:
            raise InvalidArgument(f"read {path} in the image: it is larger than {most_bytes} bytes")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise InvalidArgument(f"read {path} in the image: it is larger than {most_bytes} bytes")
    return data


@contextmanager
def _walk(layers: Sequence[Path], path: bytes) -> Iterator[tuple[_Directory | None, bytes]]:
    """Go to the directory that holds the last part of `path`, with links resolved; yield it and that part's name.

    The last part is never a link to something else, and is ``.`` for a directory that was asked for by that.
    """
    with ExitStack() as opened:
        root = tuple(_open(opened, os.fsencode(layer), None) for layer in layers)
        above: list[_Directory] = [root]
        waiting = [part for part in reversed(path.split(b"/")) if part]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == b"..":
                above = above[:-1] or above
                continue
            if part == b".":
                if not waiting:
                    yield above[-1], part
                    return
                continue
            link, below = _look(opened, above[-1], part)
            if link is not None:
                links += 1
                if links > MAX_LINKS:
                    raise InvalidArgument(
                        f"read {os.fsdecode(path)} in the image: more than {MAX_LINKS} symbolic links"
                    )
                if link.startswith(b"/"):
                    above = [root]
                waiting += [step for step in reversed(link.split(b"/")) if step]
                if not waiting:
                    waiting = [b"."]
            elif below:
                above.append(below)
                if not waiting:
                    waiting = [b"."]
            elif waiting:
                yield None, part
                return
            else:
                yield above[-1], part
                return
        yield above[-1], b"."


def _look(opened: ExitStack, directory: _Directory, name: bytes) -> tuple[bytes | None, _Directory]:
    """Return what shows at `name`: a link's target, or the directories that make up one; (None, ()) for anything else."""
    below: list[int] = []
    for place in directory:
        try:
            found = os.stat(name, dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(found.st_mode):
            below.append(_open(opened, name, place))
            if is_opaque(below[-1]):
                break
            continue
        if stat.S_ISLNK(found.st_mode) and not below:
            return os.readlink(name, dir_fd=place), ()
        break
    return None, tuple(below)


def _open(opened: ExitStack, name: bytes, place: int | None) -> int:
    fd = os.open(name, _DIRECTORY, dir_fd=place)
    opened.callback(os.close, fd)
    return fd


def is_opaque(directory: int) -> bool:
    """Tell whether the open directory hides what lies below it."""
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise
