"""The kernel's newer mount calls: a file system's options one by one, mounts that are nowhere yet, id maps of mounts.

A mount made by them belongs to a descriptor until `attach` puts it somewhere, and is gone with the descriptor if nobody
does: a process that is killed in between leaves nothing.
"""

from __future__ import annotations

import ctypes
import os

from hythe.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_IDMAP = 0x00100000

MOST_BYTES = 255
"""Length of the longest text that fsconfig(2) takes."""

_ATIME = 0x70
"""All that says when times of access are written; changed together (mount_setattr(2))."""

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_SYMLINKS = 0x10
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_SET_FLAG = 0
_SET_STRING = 1
_SET_FD = 5
_CREATE = 6
_ATTRIBUTES = (
    (libc.MS_RDONLY, MOUNT_ATTR_RDONLY),
    (libc.MS_NOSUID, MOUNT_ATTR_NOSUID),
    (libc.MS_NODEV, MOUNT_ATTR_NODEV),
    (libc.MS_NOEXEC, MOUNT_ATTR_NOEXEC),
    (libc.MS_NOATIME, MOUNT_ATTR_NOATIME),
)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


class FileSystem:
    """A file system that is being described; leaving the block gives it up, unless `mount` made one of it.

    Each call's OSError carries what the kernel wrote into the context's log, e.g. ``overlay: too many lower directories``.

    Spec: fsopen(2), fsconfig(2), fsmount(2).
    """

    def __init__(self, kind: str) -> None:
        """Begin a file system of type `kind`.

        Raises:
            OSError: ENOSYS or EPERM, the kernel has no such call; ENODEV, it has no such file system.
        """
        self._kind = kind
        self._fd = libc.call(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC, what=kind)

    def __enter__(self) -> FileSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def set(self, key: str, value: str | None = None) -> None:
        """Set an option; one without a value is a flag.

        Raises:
            OSError: the file system refuses it, or the value is longer than `MOST_BYTES`.
        """
        text = None if value is None else os.fsencode(value)
        self._configure(_SET_FLAG if text is None else _SET_STRING, key, text, 0, value or "")

    def set_file(self, key: str, fd: int, name: str) -> None:
        """Set an option to an open file, which stands for the path `name`.

        Raises:
            OSError: the file system takes no files, or not this one.
        """
        self._configure(_SET_FD, key, None, fd, name)

    def mount(self, flags: int) -> int:
        """Make the file system and return a mount of it that is nowhere yet; `flags` are those of mount(2).

        Raises:
            OSError: the file system refuses its options together.
        """
        if flags & libc.MS_RDONLY:
            self.set("ro")
        self._configure(_CREATE, "", None, 0, "")
        try:
            return libc.call(_SYS_FSMOUNT, self._fd, _FSMOUNT_CLOEXEC, attributes(flags), what=self._kind)
        except OSError as error:
            raise self._explained(error, "mount it") from None

    def _configure(self, command: int, key: str, text: bytes | None, number: int, value: str) -> None:
        try:
            libc.call(_SYS_FSCONFIG, self._fd, command, key.encode() if key else None, text, number, what=self._kind)
        except OSError as error:
            raise self._explained(error, f"{key}={value}" if value else key) from None

    def _explained(self, error: OSError, step: str) -> OSError:
        said = "; ".join((f"{self._kind} {step}" if step else self._kind, *self._log()))
        return OSError(error.errno, f"{error.strerror}: {said}")

    def _log(self) -> list[str]:
        """Return what the kernel has to say, a line each, without its mark of how bad it is."""
        lines: list[str] = []
        while True:
            try:
                line = os.read(self._fd, 4096)
            except OSError:
                return lines  # no more
            if not line:
                return lines
            lines.append(line.decode(errors="replace").strip().partition(" ")[2])


def attributes(flags: int) -> int:
    """Return the attributes of one mount that stand for mount(2)'s `flags`."""
    return sum(attribute for flag, attribute in _ATTRIBUTES if flags & flag)


def copy(path: str, *, recursive: bool = False) -> int:
    """Return a mount, nowhere yet, that shows what `path` shows; with `recursive` also what is mounted below.

    Raises:
        OSError: there is no `path`, or the kernel has no such call.

    Spec: open_tree(2), OPEN_TREE_CLONE.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return libc.call(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, what=path)


def change(mounted: int, set_attributes: int, *, user_namespace: int = -1, recursive: bool = False) -> None:
    """Give a mount that is nowhere yet `set_attributes`, and the id map of a user namespace if there is one.

    Raises:
        OSError: EINVAL, its file system has no id maps, or has one already; ENOSYS, the kernel hasn't.

    Spec: mount_setattr(2).
    """
    wanted = _MountAttributes(set_attributes, _ATIME if set_attributes & _ATIME else 0, 0, 0)
    if user_namespace >= 0:
        wanted.set |= MOUNT_ATTR_IDMAP
        wanted.userns = user_namespace
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(wanted)
    libc.call(_SYS_MOUNT_SETATTR, mounted, b"", flags, ctypes.byref(wanted), size, what="mount_setattr")


def attach(mounted: int, target: str) -> None:
    """Put a mount that is nowhere yet at `target`.

    Raises:
        OSError: the kernel refuses.

    Spec: move_mount(2).
    """
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS
    libc.call(_SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, os.fsencode(target), flags, what=target)
