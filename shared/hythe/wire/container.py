"""A container as its user asked for it, and its record of intent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, DigestText, Reply, Request

NetworkMode = Literal["none", "host"]
Desired = Literal["running", "stopped", "removed"]
Phase = Literal["creating", "created", "removing"]
MountType = Literal["bind", "volume", "tmpfs"]
Propagation = Literal["", "private", "rprivate", "shared", "rshared", "slave", "rslave"]
Sharing = Literal["private", "host"]
HookStage = Literal["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


class ImageRef(Request):
    """An image: the normalised reference it was asked by, and the digest of its root manifest or index once known."""

    reference: str
    digest: DigestText | None = None


class MountWish(Request):
    """One mount in a container, at the absolute path `target`.

    ``bind``: `source` is an absolute path of the host, made as a directory with `create` where it is missing. ``volume``:
    `source` is the volume's name, empty for one that goes with the container; a new one begins with what the image has at
    `target`, unless `no_copy`. ``tmpfs``: no source. `options` are in mount(8)'s spelling, e.g. ``size=64m``, ``noexec``.
    """

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    create: bool = False
    no_copy: bool = False
    propagation: Propagation = ""
    options: list[str] = []


class DeviceWish(Request):
    """A device of the host, or a directory of devices. Empty `target`: the same path; `permissions`: some of ``rwm``."""

    source: str
    target: str = ""
    permissions: str = "rwm"


class RlimitWish(Request):
    """A limit by its name without ``RLIMIT_``, small, e.g. ``nofile``; -1 is no limit."""

    name: str
    soft: int
    hard: int


class IoLimit(Request):
    """How fast a block device (a path of the host) may be used; 0 sets no limit."""

    path: str
    read_bytes_s: Annotated[int, Field(ge=0)] = 0
    write_bytes_s: Annotated[int, Field(ge=0)] = 0
    read_ops_s: Annotated[int, Field(ge=0)] = 0
    write_ops_s: Annotated[int, Field(ge=0)] = 0


class ResourceWishes(Request):
    """Limits of a container's cgroup; 0, None or empty sets none.

    `memory_swap_bytes` counts memory and swap together, -1 leaves swap unlimited. `cpus` is processors' worth of time.
    `pids` -1 is no limit. `device_rules` are in cgroup v1's form, e.g. ``c 1:3 rwm``.
    """

    memory_bytes: Annotated[int, Field(ge=0)] = 0
    memory_reservation_bytes: Annotated[int, Field(ge=0)] = 0
    memory_swap_bytes: Annotated[int, Field(ge=-1)] = 0
    memory_swappiness: Annotated[int, Field(ge=0, le=100)] | None = None
    oom_kill_disable: bool = False
    cpus: Annotated[float, Field(ge=0)] = 0.0
    cpu_shares: Annotated[int, Field(ge=0)] = 0
    cpu_period_us: Annotated[int, Field(ge=0)] = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: Annotated[int, Field(ge=-1)] = 0
    io_weight: Annotated[int, Field(ge=0, le=1000)] = 0
    io: list[IoLimit] = []
    device_rules: list[str] = []


class IdRange(Request):
    """Ids of a container from `container_id` on are the host's from `host_id` on, `size` of them."""

    container_id: Annotated[int, Field(ge=0)]
    host_id: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(gt=0)]


class NamespaceWishes(Request):
    """Namespaces that a container shares with its host; each is its own otherwise.

    With `user_ids` it has a user namespace too, and `group_ids` are the same unless they are given.
    """

    pid: Sharing = "private"
    ipc: Sharing = "private"
    uts: Sharing = "private"
    cgroup: Sharing = "private"
    user_ids: list[IdRange] = []
    group_ids: list[IdRange] = []


class SecurityWishes(Request):
    """What a container may do beyond or below the default.

    Capabilities are named with or without ``CAP_``, ``ALL`` is all. `seccomp` is empty for the default profile,
    ``unconfined``, or a profile as JSON text in the OCI's form. `apparmor` is a profile's name, ``unconfined``, or empty for the
    default where the host has AppArmor. `unmask` shows the whole of /proc and /sys.
    """

    privileged: bool = False
    cap_add: list[str] = []
    cap_drop: list[str] = []
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    unmask: bool = False


class HookWish(Request):
    """A program of the host, run by the runtime at a stage of the container's life; `args` begin with its own name.

    Spec: OCI runtime-spec, "POSIX-platform Hooks".
    """

    stage: HookStage
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout_s: Annotated[int, Field(ge=0)] = 0


class ContainerSpec(Request):
    """What `hythe run` asks for beside the image. Empty or None means: as the image says.

    `directory` is an absolute path of the host, of a bundle that is run instead of an image: its own ``config.json`` then
    says all that stands above it here.
    """

    args: list[str] = []
    entrypoint: list[str] | None = None
    env: list[str] = []
    cwd: str = ""
    user: str = ""
    groups: list[str] = []
    hostname: str = ""
    domainname: str = ""
    network: NetworkMode = "none"
    read_only: bool = False
    mounts: list[MountWish] = []
    shm_bytes: Annotated[int, Field(ge=0)] = 0
    devices: list[DeviceWish] = []
    rlimits: list[RlimitWish] = []
    resources: ResourceWishes = ResourceWishes()
    namespaces: NamespaceWishes = NamespaceWishes()
    security: SecurityWishes = SecurityWishes()
    sysctls: dict[str, str] = {}
    oom_score_adj: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    hooks: list[HookWish] = []
    annotations: dict[str, str] = {}
    directory: str = ""
    stdin: bool = False
    auto_remove: bool = False
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout_s: Annotated[float, Field(ge=0, le=86400)] = 10.0


class Epoch(Request):
    """Order of commands to one container: (era of the store, revision of the desired state); lower ones are refused."""

    era: Annotated[int, Field(ge=0)]
    revision: Annotated[int, Field(ge=0)]


class ContainerRecord(Reply):
    """Intent about one container, owned by metadata. Times are RFC 3339 UTC.

    `lease_expired`: still ``creating`` although its lease ran out, so somebody must settle it (ARCHITECTURE §3).
    """

    id: ContainerId
    namespace: str
    name: str
    image: ImageRef
    host: str
    spec: ContainerSpec
    desired: Desired
    phase: Phase
    epoch: Epoch
    revision: int
    created_at: str
    updated_at: str = ""
    labels: dict[str, str] = {}
    runtime: str = ""
    snapshotter: str = ""
    lease_expired: bool = False
