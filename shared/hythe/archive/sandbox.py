"""What the worker gives up before it reads the first byte of a stranger's archive."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ADDRESS_SPACE_BYTES = 1 << 30
MAX_OPEN_FILES = 64

_SIGKILL = 9
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SYNC_FILE_RANGE_WRITE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _SYS_ADMIN, _MKNOD, _SETFCAP = 0, 1, 3, 4, 21, 27, 31
KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _SYS_ADMIN, _MKNOD, _SETFCAP)
"""What applying a layer needs: any owner, mode, device and file capability; CAP_SYS_ADMIN is for ``trusted.overlay.*``."""

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def enter(parent: int, kept: Sequence[int] = KEPT) -> None:
    """Make the current directory the root for good, and give up all that applying a layer does not need.

    Nothing can be imported any more, for it would be the layer's own code. The process ends with its parent, writes no
    core, has at most 1 GiB of address space, no way to gain privileges, and the capabilities of `kept` alone.

    Args:
        parent: process id of the parent, to notice that it died before the tie was made.
        kept: numbers of the capabilities to keep, all below 32.

    Raises:
        OSError: the kernel refuses one of the steps.
    """
    tie_to(parent)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MAX_ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        resource.setrlimit(what, (most, most))
    os.umask(0)
    sys.path.clear()
    sys.meta_path.clear()
    os.chroot(".")
    os.chdir("/")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1  # up to the last that this kernel knows
    mask = sum(1 << number for number in kept)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(_CapData(mask, mask, 0), _CapData(0, 0, 0))
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def tie_to(parent: int) -> None:
    """Let this process end with its parent, whose process id is `parent`.

    Raises:
        OSError: the parent has died already.
    """
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        raise OSError("the parent process is gone")


def start_write_back(fd: int) -> None:
    """Ask the kernel to begin writing file `fd` to disk, without waiting: it leaves less for the final syncfs."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
