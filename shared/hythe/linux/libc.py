"""The system calls that Python 3.11 has no function for, by ctypes; calls release the interpreter lock."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

IN_MODIFY = 0x2
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def call(number: int, *arguments: object, what: str) -> int:
    """syscall(2); an OSError names `what`."""
    return _check(_libc.syscall(number, *arguments), what)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """mount(2)."""
    texts = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data))
    _check(_libc.mount(*texts), target)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2), for the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def inotify_init() -> int:
    """Return a new inotify descriptor, non-blocking."""
    return _check(_libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1")


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Return the watch of `path`; the same path gives the same watch."""
    return _check(_libc.inotify_add_watch(fd, path.encode(), mask), path)


def inotify_remove(fd: int, watch: int) -> None:
    """End a watch; harmless when its file is gone."""
    _libc.inotify_rm_watch(fd, watch)
