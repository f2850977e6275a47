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

CLONE_NEWNS = 0x00020000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

IN_MODIFY = 0x2
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_AT_FDCWD = -100

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


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """mount(2)."""
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()), target)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), target)


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


def mount_by_parameters(
    kind: str, source: str, parameters: list[tuple[str, str | None]], flags: int, target: str
) -> None:
    """Mount through fsopen(2), one parameter a call: no limit of one page on all of them together.

    Args:
        parameters: (key, value) in order; a value of None sets a flag.
        flags: mount attributes of fsmount(2); ``MS_RDONLY``, ``MS_NOSUID``, ``MS_NODEV`` and ``MS_NOEXEC`` have the same bits.
    """
    context = _check(_libc.syscall(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC), f"fsopen {kind}")
    try:
        for key, value in [("source", source), *parameters]:
            command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            text = None if value is None else value.encode()
            _check(_libc.syscall(_SYS_FSCONFIG, context, command, key.encode(), text, 0), f"{kind} option {key}")
        _check(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), f"create {kind}")
        mounted = _check(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, flags), f"fsmount {kind}")
    finally:
        os.close(context)
    try:
        to = target.encode()
        _check(_libc.syscall(_SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, to, _MOVE_MOUNT_F_EMPTY_PATH), target)
    finally:
        os.close(mounted)
