"""Root file systems: mounted once, unmounted for good, and what mountinfo says of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from pathlib import Path

from hythe.errors import FailedPrecondition, Unimplemented
from hythe.linux import libc, mounting
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.model import Bundle

log = logging.getLogger(__name__)

BUSY_S = 1.0


class KernelMounts:
    """`hythe_runtime.agent.ports.Mounts` by system calls, each in a worker thread."""

    async def mount(self, bundle: Bundle) -> None:
        """Mount a bundle's root file system, unless it is mounted."""
        await asyncio.to_thread(_mount_all, bundle)

    async def unmount(self, bundle: Bundle) -> None:
        """Unmount a bundle's root file system, if it is mounted."""
        await asyncio.to_thread(_unmount, bundle.rootfs)

    async def unmount_below(self, directory: Path) -> None:
        """Unmount everything at and below `directory`."""
        await asyncio.to_thread(unmount_below, directory)

    async def points_below(self, directory: Path) -> list[Path]:
        """Return all mount points below `directory`."""
        return await asyncio.to_thread(_points_below, directory)


def _mount_all(bundle: Bundle) -> None:
    for mount in bundle.mounts:
        if mount.target:
            raise Unimplemented(f"mount {bundle.rootfs}: mounts below the root of a snapshot ({mount.target!r})")
        if _is_mounted(bundle.rootfs, mount):
            continue
        try:
            mounting.mount(mount, bundle.rootfs)
        except OSError as error:
            raise FailedPrecondition(
                f"mount {bundle.rootfs} failed",
                phase="mount",
                cause=f"{mount.type}: {error}",
                details={"exit_code": "125"},
            ) from error


def _is_mounted(target: str, mount: Mount) -> bool:
    if mount.type == "bind" or any(option in ("bind", "rbind") for option in mount.options):
        return (
            os.path.realpath(target) in mount_points()
        )  # a bind mount of the same file system has the device of its parent
    return os.path.ismount(target)


def _unmount(target: str) -> None:
    """Unmount `target` until nothing is mounted there; a mount that stays busy is detached, and goes when it can."""
    limit = time.monotonic() + BUSY_S
    while True:
        try:
            libc.umount(target, libc.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY:
                raise FailedPrecondition(f"unmount {target}: {error.strerror}", phase="unmount") from error
            if time.monotonic() > limit:
                log.warning("a root file system stays busy and was detached", extra={"path": target})
                libc.umount(target, libc.UMOUNT_NOFOLLOW | libc.MNT_DETACH)
            else:
                time.sleep(0.01)


def unmount_below(directory: Path) -> None:
    """Unmount everything at and below `directory`, the latest mount first. Blocks."""
    top = str(directory.resolve())  # as the kernel spells it
    for point in reversed(mount_points()):
        if point == top or point.startswith(f"{top}/"):
            _unmount(point)


def _points_below(directory: Path) -> list[Path]:
    top = directory.resolve()  # as the kernel spells it
    return [directory / Path(point).relative_to(top) for point in mount_points() if point.startswith(f"{top}/")]


def mount_points() -> list[str]:
    """Return all mount points of this process's mount namespace, in the order of mounting. Blocks."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_unescape(line.split(" ", 5)[4]) for line in file]


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
