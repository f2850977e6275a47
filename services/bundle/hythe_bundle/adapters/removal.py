"""Removing a tree that strangers made: no link followed, no depth that hurts, two descriptors at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it; nothing happens if it isn't there.

    A directory that isn't empty is first moved to the top, so that trees of any depth, and with paths longer than
    PATH_MAX, need neither recursion nor many descriptors.

    Raises:
        OSError: the kernel refuses, e.g. something is mounted there.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink(missing_ok=True)
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    path.rmdir()


def _empty(top: int) -> None:
    """Remove everything in the open directory `top`."""
    prefix = os.fsencode(f".removed-{os.urandom(8).hex()}-")
    moved = 0
    waiting = _clear(top)
    while waiting:
        name = waiting.pop()
        inner = os.open(name, _DIRECTORY, dir_fd=top)
        try:
            for child in _clear(inner):
                moved += 1
                new_name = prefix + str(moved).encode()
                os.rename(child, new_name, src_dir_fd=inner, dst_dir_fd=top)
                waiting.append(new_name)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _clear(directory: int) -> list[bytes]:
    """Remove what can be removed at once from the open `directory`; return the directories left, none of them empty."""
    left = []
    with os.scandir(directory) as items:
        found = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in items]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            left.append(name)
    return left
