"""What a tree takes on its disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hythe.linux.deep_paths import DIRECTORY, names_in, open_directory
from hythe.ports.snapshots import Usage

_BLOCK_BYTES = 512
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def measure(directory: Path) -> Usage:
    """Return what `directory` and all in it take: blocks, not lengths, and a file with several names once. Blocks.

    Something may write to it meanwhile; then it is what was there at some moment.

    Raises:
        OSError: the disk fails, or there is no such directory.
    """
    top = os.open(directory, DIRECTORY)
    try:
        found = os.fstat(top)
        blocks, inodes = found.st_blocks, 1
        linked: set[int] = set()
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            for name, status in _entries(top, path):
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path + b"/" + name if path else name)
                elif status.st_nlink > 1:
                    if status.st_ino in linked:
                        continue
                    linked.add(status.st_ino)
                blocks += status.st_blocks
                inodes += 1
        return Usage(blocks * _BLOCK_BYTES, inodes)
    finally:
        os.close(top)


def _entries(top: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Return what is in a directory now; nothing if it is gone, or a link is in its place."""
    try:
        directory = open_directory(top, path)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return []
    found = []
    try:
        for name in names_in(directory):
            try:
                found.append((name, os.stat(name, dir_fd=directory, follow_symlinks=False)))
            except FileNotFoundError:
                continue
    finally:
        os.close(directory)
    return found
