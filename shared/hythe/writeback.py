"""Starting write-back early: many dirty bytes met by one fsync would hold up every other commit on the file system."""

from __future__ import annotations

import ctypes
import os

WRITEBACK_STEP_BYTES = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin to write a range of `fd` to disk; a hint, which promises nothing about durability.

    Args:
        offset: first byte of the range.
        length: bytes in the range.

    Raises:
        OSError: the disk refused what was written before, e.g. it is full.

    Spec: sync_file_range(2), SYNC_FILE_RANGE_WRITE.
    """
    if _libc.sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
