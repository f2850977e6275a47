"""Mounts as snapshotters describe them, made by the kernel's calls: the newer ones where a page cannot hold all options."""

from __future__ import annotations

from hythe.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hythe.ports.snapshots import Mount

PAGE_BYTES = 4096

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


def mount(wanted: Mount, target: str) -> None:
    """Make one mount at `target`, in this thread's mount namespace. Blocks.

    Raises:
        OSError: the kernel refuses.

    Spec: mount(2), fsopen(2).
    """
    flags, options = 0, []
    for option in wanted.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            options.append(option)
    data = ",".join(options)
    if len(data) >= PAGE_BYTES:
        libc.mount_by_parameters(wanted.type, wanted.source, list(_parameters(options)), flags, target)
        return
    libc.mount(wanted.source, target, wanted.type, flags, data)
    if flags & libc.MS_BIND and flags & libc.MS_RDONLY:
        libc.mount(wanted.source, target, wanted.type, flags | libc.MS_REMOUNT, data)


def mount_all(wanted: Sequence[Mount], target: str) -> None:
    """Make mounts one after the other, each at its own target below `target`. Blocks.

    Raises:
        OSError: the kernel refuses; what was mounted before stays.
    """
    for each in wanted:
        mount(each, f"{target}/{each.target}" if each.target else target)


def enter_private_namespace() -> None:
    """Give this process, which has one thread, a mount namespace of its own: what it mounts, nobody else sees.

    All of that is gone with the process, however it ends.

    Raises:
        OSError: the kernel refuses.

    Spec: mount_namespaces(7).
    """
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE, "")


def _parameters(options: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield mount options one by one; overlay's list of lower directories becomes one parameter each."""
    for option in options:
        key, equals, value = option.partition("=")
        if key == "lowerdir":
            yield from (("lowerdir+", layer) for layer in value.split(":"))
        else:
            yield key, value if equals else None
