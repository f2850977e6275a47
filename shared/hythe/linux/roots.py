"""Another root directory for this process: with nothing else mounted in its mount namespace."""

from __future__ import annotations

import ctypes
import os

from hythe.linux import libc

_libc = ctypes.CDLL(None, use_errno=True)


def pivot_into(directory: str) -> None:
    """Make `directory`, a mount point of this process's own mount namespace, its root, and let go of all other mounts.

    So the process neither sees them nor keeps others from using what is under them. The current directory is the root then.

    Raises:
        OSError: the kernel refuses.

    Spec: pivot_root(2), "pivot_root(".", ".")".
    """
    os.chdir(directory)
    if _libc.pivot_root(b".", b".") != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), directory)
    libc.umount(".", libc.MNT_DETACH)
    os.chdir("/")
