"""What a user asks for beside the image, in the domain's own terms; empty, None and 0 mean: as the image or the default says.

Nothing here is checked yet: the module that fulfils a wish also refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MountType = Literal["bind", "volume", "tmpfs"]
Sharing = Literal["private", "host"]


@dataclass(frozen=True, slots=True)
class MountWish:
    """One mount at the path `target` of the container.

    Attributes:
        source: a path of the host for ``bind``, a name for ``volume`` (empty for one that goes with the container).
        create: make a missing source as a directory.
        no_copy: leave a new volume empty instead of beginning it with what the image has at `target`.
        propagation: ``rprivate`` and the like; empty for the default.
        options: in mount(8)'s spelling.
    """

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    create: bool = False
    no_copy: bool = False
    propagation: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """A device of the host, or a directory of them; an empty `target` is the same path."""

    source: str
    target: str = ""
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class RlimitWish:
    """A limit by its small name without ``RLIMIT_``; -1 is no limit."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class IoLimit:
    """How fast a block device of the host may be used; 0 sets no limit."""

    path: str
    read_bytes_s: int = 0
    write_bytes_s: int = 0
    read_ops_s: int = 0
    write_ops_s: int = 0


@dataclass(frozen=True, slots=True)
class ResourceWishes:
    """Limits of the container's cgroup.

    Attributes:
        memory_swap_bytes: memory and swap together; -1 for no limit of swap.
        cpus: processors' worth of time.
        pids: -1 for no limit.
        device_rules: in cgroup v1's form, e.g. ``c 1:3 rwm``.
    """

    memory_bytes: int = 0
    memory_reservation_bytes: int = 0
    memory_swap_bytes: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpus: float = 0.0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    io_weight: int = 0
    io: tuple[IoLimit, ...] = ()
    device_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdRange:
    """`size` ids of the container from `container_id` on are the host's from `host_id` on."""

    container_id: int
    host_id: int
    size: int


@dataclass(frozen=True, slots=True)
class NamespaceWishes:
    """Which namespaces are the host's. With `user_ids` there is a user namespace; without `group_ids` both maps are the same."""

    pid: Sharing = "private"
    ipc: Sharing = "private"
    uts: Sharing = "private"
    cgroup: Sharing = "private"
    user_ids: tuple[IdRange, ...] = ()
    group_ids: tuple[IdRange, ...] = ()


@dataclass(frozen=True, slots=True)
class SecurityWishes:
    """What the container may do beyond or below the default.

    Attributes:
        cap_add: names with or without ``CAP_``, or ``ALL``; `cap_drop` likewise.
        seccomp: empty for the default profile, ``unconfined``, or a profile as JSON text.
        apparmor: a profile's name, ``unconfined``, or empty for the default.
        unmask: show all of /proc and /sys, and let it be written.
    """

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    unmask: bool = False


@dataclass(frozen=True, slots=True)
class HookWish:
    """A program that the runtime runs at a stage of the container's life; `args` begin with its own name."""

    stage: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a request asks for.

    Attributes:
        groups: groups beside the user's own, names of the image's /etc/group or numbers.
        network: ``none`` (a network namespace of its own with nothing but loopback) or ``host``.
    """

    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    network: str = "none"
    read_only: bool = False
    mounts: tuple[MountWish, ...] = ()
    shm_bytes: int = 0
    devices: tuple[DeviceWish, ...] = ()
    rlimits: tuple[RlimitWish, ...] = ()
    resources: ResourceWishes = ResourceWishes()
    namespaces: NamespaceWishes = NamespaceWishes()
    security: SecurityWishes = SecurityWishes()
    sysctls: Mapping[str, str] = field(default_factory=dict, hash=False)
    oom_score_adj: int | None = None
    hooks: tuple[HookWish, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    stop_signal: str = ""
