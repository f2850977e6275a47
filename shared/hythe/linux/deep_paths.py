"""Paths as deep as a container can make them: longer than PATH_MAX, opened step by step and never through a link."""

from __future__ import annotations

import os

from hythe.linux import files

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
STEP_BYTES = 3800


def open_directory(top: int, path: bytes) -> int:
    """Open the directory `path`, relative to the open directory `top`; empty for that itself.

    Reading it leaves its time of access alone, where the kernel lets this process say so.

    Raises:
        OSError: there is none; ELOOP for a symbolic link on the way.
    """
    if len(path) <= STEP_BYTES:
        try:
            return files.open_beneath(top, path or b".", DIRECTORY)
        except PermissionError:  # it is of nobody that this user namespace knows
            return files.open_beneath(top, path or b".", DIRECTORY & ~os.O_NOATIME)
    end = path.rindex(b"/", 0, STEP_BYTES)
    first = open_directory(top, path[:end])
    try:
        return open_directory(first, path[end + 1 :])
    finally:
        os.close(first)


def names_in(directory: int) -> list[bytes]:
    """Return the names in an open directory."""
    with os.scandir(directory) as items:
        return [os.fsencode(item.name) for item in items]
