"""The way of a container's own root to its root file system, where that is no root of the host (security: CVE-2021-41103)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe.linux import idmap
from hythe.ports.snapshots import Mount

_PASS = stat.S_IXGRP | stat.S_IXOTH


def give_upper(mount: Mount) -> None:
    """Make a container's root the owner of what its overlay writes to, unless one of its users is that already.

    Files of layers change their ids by the mount; those of the upper directory are plain, so its top must be right.

    Raises:
        OSError: the id map is none, or the directory isn't there.
    """
    maps, options = idmap.take_maps(mount.options)
    if maps is None or mount.type != "overlay":
        return
    user, group = maps.root
    for option in options:
        key, _, path = option.partition("=")
        if key in ("upperdir", "workdir") and not maps.has_user(Path(path).stat().st_uid):
            os.chown(path, user, group)


def open_way(rootfs: Path, top: Path | None, mount: Mount) -> None:
    """Let a container's root pass to `rootfs`: runc goes there as that user.

    Directories from `top` on may then be passed by everybody, and read by root alone; the bundle's own may be passed by
    the group of the container's root and by nobody else, so that no other user comes to a program with setuid in it.

    Args:
        top: directory of the stack; None, or a `rootfs` that isn't below it: nothing is changed, only checked.

    Raises:
        FailedPrecondition: a directory above can't be passed.
        OSError: the id map is none, or a directory isn't there.
    """
    maps, _ = idmap.take_maps(mount.options)
    if maps is None:
        return
    user, group = maps.root
    bundle = rootfs.resolve().parent
    own = [each for each in bundle.parents if top is not None and each.is_relative_to(top.resolve())]
    for directory in own:
        mode = directory.stat().st_mode
        if mode & _PASS != _PASS:
            directory.chmod(stat.S_IMODE(mode) | _PASS)
    if own:
        os.chown(bundle, -1, group)
        bundle.chmod(0o710)
    for directory in (bundle, *bundle.parents):
        if not _passable(directory, user, group):
            raise FailedPrecondition(
                f"mount {rootfs}: the container's root, {user}:{group} on the host, can't pass {directory}",
                phase="mount",
                next_step=f"chmod o+x {directory}, or keep HYTHE_ROOT elsewhere",
                details={"exit_code": "125"},
            )


def _passable(directory: Path, user: int, group: int) -> bool:
    found = directory.stat()
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IXUSR)
    return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH))
