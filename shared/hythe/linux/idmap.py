"""Id maps: which ids of the host a container's users and groups are, and the user namespace that tells the kernel.

They come with a mount as its options ``uidmap=C:H:S`` and ``gidmap=C:H:S``: the container's ids from C on are the host's
from H on, S of them; several ranges are joined by commas, as containerd writes them.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from hythe.linux import mount_calls, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT = 8
_MOST_IDS = 1 << 32
_HELPER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.write(1, b"%d\\n" % (ctypes.get_errno() if libc.unshare(0x10000000) else 0))
os.read(0, 1)
"""
"""Makes a user namespace (CLONE_NEWUSER) and stays in it until its stdin ends, which it does with whoever started it."""

_namespaces: dict[IdMaps, int] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class IdRange:
    """The container's ids from `container` on are the host's from `host` on, `size` of them."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True)
class IdMaps:
    """The maps of users and of groups of one user namespace; every range has at least one id."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]

    @property
    def root(self) -> tuple[int, int]:
        """User and group of the host that are the container's root.

        Raises:
            OSError: the container has no root.
        """
        return _host_id_of_root(self.users, "user"), _host_id_of_root(self.groups, "group")

    def has_user(self, host_id: int) -> bool:
        """Tell whether a user of the host is one of the container's."""
        return any(each.host <= host_id < each.host + each.size for each in self.users)


def take_maps(options: Sequence[str]) -> tuple[IdMaps | None, list[str]]:
    """Return the id maps that a mount's options ask for, if they do, and the other options.

    Raises:
        OSError: one of the two maps is missing, or is no map.
    """
    texts = {"uidmap": "", "gidmap": ""}
    others = []
    for option in options:
        key, _, value = option.partition("=")
        if key in texts:
            texts[key] = value
        else:
            others.append(option)
    if not any(texts.values()):
        return None, others
    users, groups = (_parse(key, text) for key, text in texts.items())
    return IdMaps(users, groups), others


def user_namespace(maps: IdMaps) -> int:
    """Return a descriptor, the caller's to close, of a user namespace that has these maps.

    The namespaces of the last eight maps are kept open: making one starts a process, which takes some 15 ms.

    Raises:
        OSError: the kernel makes no user namespaces, or refuses the maps.

    Spec: user_namespaces(7).
    """
    with _lock:
        kept = _namespaces.pop(maps, -1)
        if kept < 0:
            kept = _make(maps)
        _namespaces[maps] = kept
        if len(_namespaces) > _KEPT:
            os.close(_namespaces.pop(next(iter(_namespaces))))
        return os.dup(kept)


def copy_with(path: str, attributes: int, user_namespace: int = -1, *, recursive: bool = False) -> int:
    """Return a mount, nowhere yet, that shows `path` with the attributes and through the id map of a user namespace.

    Args:
        attributes: those of `hythe.linux.mount_calls`.
        user_namespace: -1 for no id map.
        recursive: whether it shows what is mounted below, too.

    Raises:
        OSError: there is no `path`, or the kernel or its file system, which is named, has no id maps.
    """
    tree = mount_calls.copy(path, recursive=recursive)
    try:
        mount_calls.change(tree, attributes, user_namespace=user_namespace, recursive=recursive)
    except OSError as error:
        os.close(tree)
        if user_namespace < 0:
            raise
        kind = mountinfo.file_system_of(Path(path))
        raise OSError(
            error.errno, f"{error.strerror}: map the ids of {path} (file system {kind}, which may have no id maps)"
        ) from None
    return tree


def _make(maps: IdMaps) -> int:
    import subprocess  # most who mount need none

    pipe = subprocess.PIPE
    argv = [sys.executable, "-I", "-S", "-c", _HELPER]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd="/") as helper:
        assert helper.stdin is not None and helper.stdout is not None
        try:
            answer = helper.stdout.readline()
            number = int(answer or errno.ECHILD)
            if number:
                raise OSError(
                    number, f"{os.strerror(number)}: make a user namespace (user.max_user_namespaces may be 0)"
                )
            own = Path("/proc") / str(helper.pid)
            for name, ranges in (("uid_map", maps.users), ("gid_map", maps.groups)):
                text = "".join(f"{each.container} {each.host} {each.size}\n" for each in ranges)
                try:
                    (own / name).write_text(text)
                except OSError as error:
                    shown = ",".join(f"{each.container}:{each.host}:{each.size}" for each in ranges)
                    raise OSError(
                        error.errno, f"{error.strerror}: {name} {shown} (ranges may overlap, or be more than 340)"
                    ) from None
            return os.open(own / "ns" / "user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            helper.stdin.close()


def _parse(key: str, text: str) -> tuple[IdRange, ...]:
    ranges = []
    for part in text.split(","):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise OSError(errno.EINVAL, f"{key}={text}: {part!r} is not CONTAINER:HOST:SIZE")
        container, host, size = map(int, numbers)
        if size < 1 or container + size > _MOST_IDS or host + size > _MOST_IDS:
            raise OSError(errno.EINVAL, f"{key}={text}: {part!r} is no range of ids")
        ranges.append(IdRange(container, host, size))
    return tuple(ranges)


def _host_id_of_root(ranges: tuple[IdRange, ...], kind: str) -> int:
    for each in ranges:
        if each.container == 0:
            return each.host
    raise OSError(errno.EINVAL, f"the container's root is no {kind} of the host: no range begins with 0")
