"""What a descriptor leads to, whatever its name leads to meanwhile: changed, told by its file system."""

from __future__ import annotations

import ctypes
import os

_AT_FDCWD = -100
_AT_SYMLINK_FOLLOW = 0x400
_AT_EMPTY_PATH = 0x1000

_VIRTUAL = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0x62656570,  # configfs
        0xF97CFF8C,  # selinuxfs
        0x65735543,  # fuse's control
    }
)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)


def link_descriptor(fd: int, directory: int, name: bytes) -> None:
    """Give the open file `fd`, which may have no name yet, the name `name` in `directory`.

    Raises:
        OSError: as linkat(2); EEXIST when the name is taken.
    """
    result = _libc.linkat(fd, b"", directory, name, _AT_EMPTY_PATH)
    if result != 0 and ctypes.get_errno() == 2:  # ENOENT: not allowed to without CAP_DAC_READ_SEARCH on older kernels
        result = _libc.linkat(_AT_FDCWD, b"/proc/self/fd/%d" % fd, directory, name, _AT_SYMLINK_FOLLOW)
    _check(result, name)


def chown_descriptor(fd: int, uid: int, gid: int) -> None:
    """Give what `fd` (``O_PATH`` will do) leads to an owner; of a symbolic link, the link itself.

    Raises:
        OSError: as fchownat(2).
    """
    _check(_libc.fchownat(fd, b"", ctypes.c_uint32(uid), ctypes.c_uint32(gid), _AT_EMPTY_PATH), b"")


def date_descriptor(fd: int, mtime_ns: int) -> None:
    """Set both times of what `fd` (``O_PATH`` will do) leads to; of a symbolic link, its own.

    Raises:
        OSError: as utimensat(2).
    """
    seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
    both = (_Time * 2)(_Time(seconds, nanoseconds), _Time(seconds, nanoseconds))
    _check(_libc.utimensat(fd, b"", both, _AT_EMPTY_PATH), b"")


def is_virtual(fd: int) -> bool:
    """Tell whether the open `fd` lies on a file system that the kernel makes up as it is read, such as /proc.

    Spec: statfs(2), ``f_type``.
    """
    buffer = (ctypes.c_long * 32)()
    _check(_libc.fstatfs(fd, buffer), b"")
    return int(buffer[0]) & 0xFFFFFFFF in _VIRTUAL


def _check(result: int, name: bytes) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(name))
