"""Root file systems: mounted once and whole, unmounted for good, and what mountinfo says of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from pathlib import Path

from hythe import threads
from hythe.errors import FailedPrecondition
from hythe.linux import libc, mountinfo, mounting
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.adapters.passage import give_upper, open_way
from hythe_runtime.agent.model import Bundle

log = logging.getLogger(__name__)

BUSY_S = 1.0


class KernelMounts:
    """`hythe_runtime.agent.ports.Mounts` by system calls, each in a worker thread.

    A cancelled caller goes on when the kernel is done: what follows finds either all of it or nothing.
    """

    def __init__(self, top: Path | None = None) -> None:
        """`top` is the stack's directory, which containers with user namespaces may pass through; None opens nothing."""
        self._top = top

    async def mount(self, bundle: Bundle) -> None:
        """Mount a bundle's root file system, unless it is mounted."""
        await threads.run(lambda: _mount_all(bundle, self._top))

    async def unmount(self, bundle: Bundle) -> None:
        """Unmount a bundle's root file system, if it is mounted."""
        await threads.run(lambda: _unmount_all(bundle))

    async def unmount_below(self, directory: Path) -> None:
        """Unmount everything at and below `directory`."""
        await threads.run(lambda: unmount_below(directory))

    async def points_below(self, directory: Path) -> list[Path]:
        """Return all mount points below `directory`."""
        return await asyncio.to_thread(_points_below, directory)


def _mount_all(bundle: Bundle, top: Path | None) -> None:
    """Make the mounts that aren't there yet, in order; if one fails, those just made go again."""
    made: list[Mount] = []
    for mount in bundle.mounts:
        try:
            if _is_mounted(bundle.rootfs, mount):
                continue
            if not mount.target:
                _check_unused(bundle.rootfs, mount)
                give_upper(mount)
                open_way(Path(bundle.rootfs), top, mount)
            mounting.mount_below(mount, bundle.rootfs)
        except (OSError, FailedPrecondition) as error:
            for each in reversed(made):
                _unmount(_point(bundle.rootfs, each))
            if isinstance(error, FailedPrecondition):
                raise
            at = f" at {mount.target}" if mount.target else ""
            raise FailedPrecondition(
                f"mount {bundle.rootfs} failed{at}",
                phase="mount",
                cause=f"{mount.type}: {error}",
                details={"exit_code": "125"},
            ) from error
        made.append(mount)


def _is_mounted(rootfs: str, mount: Mount) -> bool:
    point = _point(rootfs, mount)
    if mount.target or mount.type == "bind" or any(option in ("bind", "rbind") for option in mount.options):
        return point in mountinfo.points()  # a bind mount of the same file system has the device of its parent
    return os.path.ismount(point)


def _check_unused(rootfs: str, mount: Mount) -> None:
    """Refuse a root file system that is written to elsewhere: two overlays with one upper directory damage it."""
    for option in mount.options:
        key, _, upper = option.partition("=")
        if key == "upperdir" and (point := mountinfo.overlay_on(Path(upper))):
            raise FailedPrecondition(
                f"mount {rootfs}: its snapshot is mounted at {point}",
                phase="mount",
                next_step=f"`hythe snapshot unmount {point}`, then start it again",
                details={"exit_code": "125"},
            )


def _point(rootfs: str, mount: Mount) -> str:
    """Return where a mount is, as the kernel spells it."""
    target = mount.target.strip("/")
    return f"{os.path.realpath(rootfs)}/{target}" if target else os.path.realpath(rootfs)


def _unmount_all(bundle: Bundle) -> None:
    if any(mount.target for mount in bundle.mounts):
        unmount_below(Path(bundle.rootfs))
    else:
        _unmount(bundle.rootfs)


def _unmount(target: str) -> None:
    """Unmount `target` until nothing is mounted there; a mount that stays busy is detached, and goes when it can.

    Raises:
        FailedPrecondition: the kernel refuses.
    """
    limit = time.monotonic() + BUSY_S
    detach = 0
    while True:
        try:
            libc.umount(target, libc.UMOUNT_NOFOLLOW | detach)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY or detach:
                raise FailedPrecondition(f"unmount {target}: {error.strerror}", phase="unmount") from error
            if time.monotonic() > limit:
                log.warning("a root file system stays busy and is detached", extra={"path": target})
                detach = libc.MNT_DETACH
            else:
                time.sleep(0.01)


def unmount_below(directory: Path) -> None:
    """Unmount everything at and below `directory`, what lies deepest first. Blocks.

    Raises:
        FailedPrecondition: the kernel refuses.
    """
    found = mountinfo.points_below(directory)[::-1]
    for point in sorted(found, key=lambda point: -point.count("/")):
        _unmount(point)


def _points_below(directory: Path) -> list[Path]:
    top = directory.resolve()  # as the kernel spells it
    return [
        directory / Path(point).relative_to(top) for point in mountinfo.points_below(directory) if point != str(top)
    ]
