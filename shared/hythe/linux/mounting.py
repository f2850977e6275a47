"""Mounts as snapshotters describe them, made by the kernel's calls: any number of layers, with id maps where they ask for it."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from hythe.linux import files, idmap, libc, mount_calls, overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from hythe.linux.overlay import Form

    class Mount(Protocol):
        """A mount as snapshotters describe it: `hythe.ports.snapshots.Mount`, or `Described`."""

        @property
        def type(self) -> str: ...
        @property
        def source(self) -> str: ...
        @property
        def target(self) -> str: ...
        @property
        def options(self) -> tuple[str, ...]: ...


_FLAGS = {
    "ro": libc.MS_RDONLY,
    "rw": 0,
    "nosuid": libc.MS_NOSUID,
    "nodev": libc.MS_NODEV,
    "noexec": libc.MS_NOEXEC,
    "noatime": libc.MS_NOATIME,
    "relatime": libc.MS_RELATIME,
    "bind": libc.MS_BIND,
    "rbind": libc.MS_BIND | libc.MS_REC,
}
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class Described:
    """A mount with the fields of `hythe.ports.snapshots.Mount`, for workers: that module takes long to import."""

    __slots__ = ("options", "source", "target", "type")

    def __init__(self, type: str, source: str, target: str, options: Iterable[str]) -> None:
        self.type = type
        self.source = source
        self.target = target
        self.options = tuple(options)

    def quiet(self) -> Described:
        """Return the same mount for one who only looks: no set-id bit, device or program in it means anything."""
        return Described(self.type, self.source, self.target, (*self.options, "nosuid", "nodev", "noexec"))


def mount(wanted: Mount, target: str, *, form: Form = "auto") -> None:
    """Make one mount at `target`, in this process's mount namespace. Blocks.

    With the options ``uidmap`` and ``gidmap`` (`hythe.linux.idmap`) the layers of an overlay, or what a bind mount shows,
    have the ids of a container's users where their files have those that the container knows.

    Args:
        form: how an overlay is mounted, see `hythe.linux.overlay`; a bind mount knows ``plain``, mount(2) alone, besides.

    Raises:
        OSError: the kernel refuses; its text says why, as far as the kernel does. Nothing stays mounted.

    Spec: mount(2), fsopen(2), open_tree(2), mount_setattr(2).
    """
    maps, others = idmap.take_maps(wanted.options)
    flags, options = 0, []
    for option in others:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            options.append(option)
    with ExitStack() as opened:
        namespace = -1
        if maps is not None:
            namespace = idmap.user_namespace(maps)
            opened.callback(os.close, namespace)
        if wanted.type == "overlay":
            overlay.mount(overlay.parse(wanted.source, options), target, flags, form, namespace)
        elif flags & libc.MS_BIND or wanted.type == "bind":
            _bind(wanted.source, target, flags | libc.MS_BIND, namespace, in_steps=form == "plain")
        elif maps is None:
            libc.mount(wanted.source, target, wanted.type, flags, ",".join(options))
        else:
            raise OSError(errno.EINVAL, f"only overlays and bind mounts can have id maps, not {wanted.type}")


def _bind(source: str, target: str, flags: int, user_namespace: int, *, in_steps: bool) -> None:
    attributes, recursive = mount_calls.attributes(flags), bool(flags & libc.MS_REC)
    if user_namespace < 0 and (in_steps or not attributes):
        _bind_in_steps(source, os.path.realpath(target), flags, attributes)
        return
    try:
        tree = idmap.copy_with(source, attributes, user_namespace, recursive=recursive)
    except OSError as error:
        if user_namespace >= 0 or error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        _bind_in_steps(source, os.path.realpath(target), flags, attributes)
        return
    try:
        mount_calls.attach(tree, target)
    finally:
        os.close(tree)


def _bind_in_steps(source: str, target: str, flags: int, attributes: int) -> None:
    """Bind by mount(2), which gives attributes in a second call; kernels before Linux 5.12 have no other."""
    libc.mount(source, target, "", flags & (libc.MS_BIND | libc.MS_REC), "")
    if not attributes:
        return
    try:
        libc.mount("", target, "", flags & ~libc.MS_REC | libc.MS_REMOUNT, "")
    except OSError:
        libc.umount(target, libc.UMOUNT_NOFOLLOW | libc.MNT_DETACH)
        raise


def mount_all(wanted: Sequence[Mount], target: str, *, form: Form = "auto") -> None:
    """Make mounts one after the other, each at its own target below `target`. Blocks.

    No symbolic link below `target` is followed: what is mounted there comes from strangers.

    Raises:
        OSError: the kernel refuses, or a target isn't there; what was mounted before is unmounted.
    """
    made = 0
    try:
        for each in wanted:
            mount_below(each, target, form=form)
            made += 1
    except BaseException:
        for each in reversed(wanted[:made]):
            unmount_below(each, target)
        raise


def mount_below(wanted: Mount, target: str, *, form: Form = "auto") -> None:
    """Make one of several mounts, at its own target below `target`; as `mount_all` otherwise."""
    if not wanted.target:
        mount(wanted, target, form=form)
        return
    top = os.open(target, _DIRECTORY | os.O_CLOEXEC)
    try:
        place = files.open_beneath(top, os.fsencode(wanted.target.strip("/")), _DIRECTORY)
    finally:
        os.close(top)
    try:
        mount(wanted, f"/proc/self/fd/{place}", form=form)
    finally:
        os.close(place)


def unmount_below(wanted: Mount, target: str) -> None:
    """Detach the topmost mount at the target of `wanted` below `target`.

    Raises:
        OSError: nothing is mounted there.
    """
    place = f"{target}/{wanted.target.strip('/')}" if wanted.target else target
    libc.umount(place, libc.UMOUNT_NOFOLLOW | libc.MNT_DETACH)


def enter_private_namespace() -> None:
    """Give this process, which has one thread, a mount namespace of its own: what it mounts, nobody else sees.

    All of that is gone with the process, however it ends.

    Raises:
        OSError: the kernel refuses.

    Spec: mount_namespaces(7).
    """
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE, "")
