"""What a spec needs to know of the host: facts that hold for every container, and what one container's wishes point at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hythe_bundle import capabilities
from hythe_bundle.wishes import Wishes

DEVICES = "/dev"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is so on the host, whatever container is asked for.

    Attributes:
        name: its host name.
        architecture: its processor as images name it, e.g. ``amd64``.
        network_files: files of its own that a container on its network shares, as far as they exist.
        ipc_places: directories in which processes share memory and queues, as far as they exist.
        cgroup_version: 1 also where a second hierarchy is mounted beside it: runtimes then use version 1.
        kernel: version and patch level of the kernel.
        capabilities: those that may be given to a container at all.
        limits: the most that may be set of a resource without CAP_SYS_RESOURCE, by small names; none for no limit.
        may_raise_limits: whether CAP_SYS_RESOURCE lets a container have more than that.
        most_open_files: above it nobody may set ``nofile``.
        oom_score_adj: below it nobody without CAP_SYS_RESOURCE may go.
        apparmor: profiles that are loaded; None without AppArmor.
        cpus: numbers of its processors that are on.
        swap_limits: whether swap can be limited.
    """

    name: str
    architecture: str
    network_files: tuple[str, ...] = ()
    ipc_places: tuple[str, ...] = ("/dev/shm", "/dev/mqueue")
    cgroup_version: Literal[1, 2] = 1
    kernel: tuple[int, int] = (6, 1)
    capabilities: tuple[str, ...] = capabilities.NAMES
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    may_raise_limits: bool = True
    most_open_files: int = 1 << 20
    oom_score_adj: int = 0
    apparmor: frozenset[str] | None = None
    cpus: frozenset[int] = frozenset({0})
    swap_limits: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host.

    Attributes:
        path: where it was found, which may be below the path that was asked for.
        kind: ``c`` for a character device, ``b`` for a block device.
        mode: permission bits.
        whole: it is no partition of another one.
    """

    path: str
    kind: Literal["c", "b"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """What is at a path of the host that shall be bound into a container.

    Attributes:
        shared: what is mounted below it later may be passed on in both directions.
        slave: what is mounted below it later may be passed on to the container.
    """

    shared: bool = False
    slave: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What the paths in one container's wishes mean on this host.

    Attributes:
        devices: by the path that was asked for: that one, or all below a directory; none where there is no device.
        sources: by path; a path that is missing there is missing on the host.
        io_weight: whether weights of input and output can be set.
    """

    devices: Mapping[str, tuple[Device, ...]] = field(default_factory=dict, hash=False)
    sources: Mapping[str, Source] = field(default_factory=dict, hash=False)
    io_weight: bool = True


class Host(Protocol):
    """The host as far as specs depend on it. All but `facts` may block for long: call them in a thread."""

    def facts(self) -> HostFacts:
        """Return what is so now."""

    def devices(self, path: str) -> tuple[Device, ...]:
        """Return the device at `path`, links resolved, or all below that directory but what is mounted there; else nothing."""

    def source(self, path: str, *, create: bool, mounts: bool) -> Source | None:
        """Return what is at `path`, which `create` makes as a directory if it is missing; None if there is nothing.

        Args:
            mounts: whether it matters how mounts below it are passed on.

        Raises:
            InvalidArgument: it can't be made or looked at.
        """

    def has_io_weight(self) -> bool:
        """Tell whether weights of input and output can be set here."""


def find(wishes: Wishes, host: Host, *, create: bool) -> Found:
    """Look up what the paths in `wishes` mean. See `Host` for errors.

    Args:
        create: make the directories that are to be made; else each of them is taken to be there already.
    """
    asked = [wish.source for wish in wishes.devices] + [limit.path for limit in wishes.resources.io]
    if wishes.security.privileged:
        asked.append(DEVICES)
    sources: dict[str, Source] = {}
    for wish in wishes.mounts:
        if wish.type == "bind" and wish.source.startswith("/") and "\0" not in wish.source:
            source = host.source(wish.source, create=wish.create and create, mounts=bool(wish.propagation))
            if source is None and wish.create:
                source = Source(shared=True, slave=True)
            if source is not None:
                sources[wish.source] = source
    devices = {path: host.devices(path) for path in asked if path.startswith("/") and "\0" not in path}
    weight = not wishes.resources.io_weight or host.has_io_weight()
    return Found(devices, sources, weight)


def needs_look(wishes: Wishes) -> bool:
    """Tell whether `find` has anything to look up; without, an empty `Found` is what it would return."""
    binds = any(wish.type == "bind" for wish in wishes.mounts)
    resources = wishes.resources
    return bool(binds or wishes.devices or wishes.security.privileged or resources.io or resources.io_weight)
