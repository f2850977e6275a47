"""Files: paths opened without leaving a directory, and file systems made durable."""

from __future__ import annotations

import ctypes
import os

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    """Open `path` below the open `directory` without passing any symbolic link or leaving it; return the descriptor.

    Raises:
        OSError: as open(2); ELOOP for a symbolic link anywhere in `path`, EXDEV for one that leads out.

    Spec: openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
    """
    return _openat2(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


def open_in_root(root: int, path: bytes, flags: int) -> int:
    """Open `path` as a process would whose root directory is the open `root`: links and ``..`` end there.

    Raises:
        OSError: as openat2(2).

    Spec: openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS.
    """
    return _openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def _openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    fd = int(_libc.syscall(_SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how)))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(path))
    return fd


def open_real(path: bytes, flags: int = os.O_PATH | os.O_DIRECTORY) -> int:
    """Open the absolute `path`, in which all links are resolved already: a link that somebody puts there since is refused.

    Raises:
        OSError: as open(2); ELOOP for a symbolic link anywhere in `path`.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(root, path.lstrip(b"/") or b".", flags)
    finally:
        os.close(root)


def sync_file_system(directory: os.PathLike[str]) -> None:
    """Make all that was written to the file system of `directory` durable, and report what could not be written.

    Raises:
        OSError: the disk failed, also for data written before.

    Spec: syncfs(2).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(directory))
    finally:
        os.close(fd)
