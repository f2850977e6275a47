"""What is mounted in a container, and in which order: the usual file systems, then what was asked for over them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.oci import ImageConfig
from hythe_bundle import namespaces, paths
from hythe_bundle.host_facts import Found, HostFacts, Source
from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import MountWish, Wishes

SHM_BYTES = 64 << 20
_RECURSIVE_READ_ONLY = (5, 12)
"""The first kernel with mount_setattr(2), by which what is mounted below a bind becomes read-only, too."""

_QUIET = ("nosuid", "noexec", "nodev")
_SHM, _QUEUES = "/dev/shm", "/dev/mqueue"
_TTY_GROUP = 5
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_FLAGS = {
    "ro": "rw",
    "rw": "ro",
    "nosuid": "suid",
    "suid": "nosuid",
    "nodev": "dev",
    "dev": "nodev",
    "noexec": "exec",
    "exec": "noexec",
    "noatime": "atime",
    "atime": "noatime",
    "nodiratime": "diratime",
    "diratime": "nodiratime",
    "relatime": "norelatime",
    "norelatime": "relatime",
    "strictatime": "nostrictatime",
    "nostrictatime": "strictatime",
    "sync": "async",
    "async": "sync",
    "nosymfollow": "symfollow",
    "symfollow": "nosymfollow",
}
"""Each beside the one that it takes the place of."""

_BIND = ("bind", "rbind", "rro", *_PROPAGATIONS)
_TMPFS_SETTINGS = re.compile(r"(?:size|nr_blocks|nr_inodes)=[0-9]{1,18}[kKmMgG%]?|mode=[0-7]{1,4}|[ug]id=[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class BoundFile:
    """A file that is bound into the container.

    Attributes:
        source: its absolute path on the host.
        read_only: whether the container may not write to it.
    """

    path: str
    source: str
    read_only: bool


def make(
    wishes: Wishes,
    volumes: Sequence[ResolvedMount],
    bound: Sequence[BoundFile],
    host: HostFacts,
    found: Found,
) -> list[dict[str, Any]]:
    """Return ``mounts``, those nearer the root first, so that none hides another that was asked for.

    What is asked for takes the place of the usual mount at the same path; a mount at /dev takes the place of all below it.

    Args:
        volumes: mounts for all wishes of type ``volume`` and for the image's volumes.
        bound: files of Hythe's own, where nothing is asked for.

    Raises:
        InvalidArgument: a target, source or option that is none, or one target twice.
        NotFound: the source of a bind isn't there.
        FailedPrecondition: the host doesn't pass on what is mounted below a source.

    Spec: OCI runtime-spec, "Mounts".
    """
    asked: dict[str, dict[str, Any]] = {}
    for target, made in [_asked(wish, host, found) for wish in wishes.mounts if wish.type != "volume"] + [
        _resolved(volume) for volume in volumes
    ]:
        if target in asked:
            raise InvalidArgument(f"mount at {target!r}: two things are asked for there")
        asked[target] = made
    usual = [
        mount
        for mount in (*_usual(wishes, host), *_files(bound))
        if mount["destination"] not in asked and not ("/dev" in asked and paths.is_below(mount["destination"], "/dev"))
    ]
    return sorted((*usual, *asked.values()), key=lambda mount: mount["destination"].count("/"))


def root_propagation(wishes: Wishes) -> str:
    """Return ``linux.rootfsPropagation``: what a bind needs that passes mounts on to the host; empty for the default."""
    return "shared" if any(wish.propagation in ("shared", "rshared") for wish in wishes.mounts) else ""


def image_volumes(wishes: Wishes, config: ImageConfig) -> tuple[str, ...]:
    """Return the normalised paths that the image declares as volumes, but for those where the request mounts something.

    Raises:
        InvalidArgument: one is no path to mount at; a stranger chose them (CVE-2022-23648).
    """
    asked = {posixpath.normpath(wish.target) for wish in wishes.mounts}
    declared = dict.fromkeys(paths.target("mount the image's volume at", path) for path in config.volumes)
    return tuple(path for path in declared if path not in asked)


def _usual(wishes: Wishes, host: HostFacts) -> list[dict[str, Any]]:
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if namespaces.has(namespaces.group_ids(wishes.namespaces), _TTY_GROUP):
        terminals.append(f"gid={_TTY_GROUP}")
    return [
        _mount("/proc", "proc", "proc", *_QUIET),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *terminals),
        *_ipc(wishes, host),
        *_sys(wishes, host),
    ]


def _ipc(wishes: Wishes, host: HostFacts) -> list[dict[str, Any]]:
    """Return where processes meet: shared memory and message queues. Those of a shared namespace are the host's own."""
    shared = wishes.namespaces.ipc == "host"
    made = []
    if shared and _SHM in host.ipc_places:
        made.append(_mount(_SHM, "bind", _SHM, "rbind", "rprivate", *_QUIET))
    else:
        size = f"size={wishes.shm_bytes or SHM_BYTES}"
        made.append(_mount(_SHM, "tmpfs", "shm", *_QUIET, "mode=1777", size))
    if not (shared and wishes.namespaces.user_ids):
        made.append(_mount(_QUEUES, "mqueue", "mqueue", *_QUIET))
    elif _QUEUES in host.ipc_places:  # a user namespace may mount only the queues that it owns
        made.append(_mount(_QUEUES, "bind", _QUEUES, "rbind", "rprivate", *_QUIET))
    return made


def _sys(wishes: Wishes, host: HostFacts) -> list[dict[str, Any]]:
    access = () if wishes.security.privileged else ("ro",)
    cgroups = _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_QUIET, "relatime", *access)
    if wishes.namespaces.user_ids and wishes.network == "host":
        # A user namespace may mount a sysfs only of a network that it owns.
        return [_mount("/sys", "bind", "/sys", "rbind", "rprivate", *_QUIET, *_read_only(host)), cgroups]
    return [_mount("/sys", "sysfs", "sysfs", *_QUIET, *access), cgroups]


def _read_only(host: HostFacts) -> tuple[str, ...]:
    """Return what makes a recursive bind read-only, with all that is mounted below it where the kernel can do that."""
    return ("ro", "rro") if host.kernel >= _RECURSIVE_READ_ONLY else ("ro",)


def _files(bound: Sequence[BoundFile]) -> list[dict[str, Any]]:
    return [
        _mount(file.path, "bind", file.source, "bind", "rprivate", "ro" if file.read_only else "rw") for file in bound
    ]


def _asked(wish: MountWish, host: HostFacts, found: Found) -> tuple[str, dict[str, Any]]:
    target = paths.target("mount at", wish.target)
    if wish.type == "tmpfs":
        if wish.source or wish.propagation:
            raise InvalidArgument(f"mount at {target!r}: a tmpfs has neither source nor propagation")
        return target, _tmpfs(target, ("ro" if wish.read_only else "rw", *wish.options))
    if not wish.source.startswith("/"):
        raise InvalidArgument(
            f"mount {wish.source[:200]!r}: it is not an absolute path of the host",
            next_step="write the whole path, or mount a volume of that name",
        )
    source = found.sources.get(wish.source)
    if source is None:
        raise NotFound(
            f"mount {wish.source[:200]!r}: no such file or directory on the host",
            next_step="make it first, or have it made with `create`",
        )
    _check_propagation(wish, source)
    options = list(wish.options)
    if wish.propagation:
        options.append(wish.propagation)
    if wish.read_only:
        options += ["ro"] if "bind" in options else _read_only(host)
    return target, _bind(target, wish.source, options)


def _check_propagation(wish: MountWish, source: Source) -> None:
    passes = {"shared": source.shared, "slave": source.shared or source.slave}.get(
        wish.propagation.removeprefix("r"), True
    )
    if not passes:
        raise FailedPrecondition(
            f"mount {wish.source[:200]!r}: nothing that is mounted below it is passed on by the host",
            outcome="not started",
            next_step=f"make its mount a shared one, or leave out {wish.propagation}",
        )


def _resolved(volume: ResolvedMount) -> tuple[str, dict[str, Any]]:
    target = paths.target("mount at", volume.target)
    if volume.type == "tmpfs":
        return target, _tmpfs(target, volume.options)
    return target, _bind(target, volume.source, volume.options)


def _bind(target: str, source: str, options: Sequence[str]) -> dict[str, Any]:
    made: list[str] = []
    for option in options:
        if option not in _FLAGS and option not in _BIND:
            raise _unknown(target, option)
        _put(made, option)
    if "bind" not in made and "rbind" not in made:
        made.insert(0, "rbind")
    if not any(propagation in made for propagation in _PROPAGATIONS):
        made.append("rprivate")
    return _mount(target, "bind", source, *made)


def _tmpfs(target: str, options: Sequence[str]) -> dict[str, Any]:
    """Return a tmpfs, which may take half of the memory unless it is told otherwise (the kernel's own default)."""
    made = [*_QUIET, "size=50%"]
    for option in options:
        if option not in _FLAGS and not _TMPFS_SETTINGS.fullmatch(option):
            raise _unknown(target, option)
        _put(made, option)
    return _mount(target, "tmpfs", "tmpfs", *made)


def _put(options: list[str], option: str) -> None:
    """Add an option; it takes the place of its opposite, or of the same setting."""
    key, equals, _ = option.partition("=")
    for other in list(options):
        if other in (option, _FLAGS.get(option)) or (equals and other.startswith(f"{key}=")):
            options.remove(other)
    options.append(option)


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _unknown(target: str, option: str) -> InvalidArgument:
    return InvalidArgument(f"mount at {target!r}: there is no option {option[:100]!r} here", next_step="see mount(8)")
