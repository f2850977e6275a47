"""The OCI spec of a container: a pure function of what was asked for, the image, and a few facts of the host.

Defaults are those of the other engines: 14 capabilities, none inheritable or ambient, a seccomp profile, what tells of the
host masked, the rest of /sys and the switches of /proc read-only, a device list that starts with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig
from hythe_bundle import command, seccomp
from hythe_bundle.command import Wishes
from hythe_bundle.users import User

OCI_VERSION = "1.0.2"
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
_QUIET = ("nosuid", "noexec", "nodev")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the spec needs to know of the host.

    Attributes:
        name: its host name.
        architecture: its processor as images name it, e.g. ``amd64``.
        network_files: files of its own that a container on its network shares, as far as they exist.
    """

    name: str
    architecture: str
    network_files: tuple[str, ...] = ()


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
    container_id: str,
    wishes: Wishes,
    config: ImageConfig,
    user: User,
    cgroup_path: str,
    bound: Sequence[BoundFile],
    host: HostFacts,
    *,
    with_32_bit: bool,
) -> dict[str, Any]:
    """Return ``config.json`` as an object. Limits on resources stay as the runtime inherits them.

    Args:
        container_id: 32 hex digits.
        cgroup_path: path of the container's cgroup below each hierarchy's root.
        bound: files to bind into the container.
        with_32_bit: whether the image has programs for the processor's 32-bit twin.

    Raises:
        InvalidArgument: a wish or the image's config can't be fulfilled; see `hythe_bundle.command`.

    Spec: OCI runtime-spec 1.0.2, "Configuration" and "Linux Container Configuration".
    """
    hostname = command.hostname(wishes, container_id, host.name)
    own_network = wishes.network != "host"
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
            "args": command.arguments(wishes, config),
            "env": command.environment(wishes, config, hostname),
            "cwd": command.working_directory(wishes, config),
            "capabilities": {
                "bounding": list(CAPABILITIES),
                "effective": list(CAPABILITIES),
                "permitted": list(CAPABILITIES),
                "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": False,  # as in Docker: su and ping of an image work; the bounding set still holds
        },
        "root": {"path": "rootfs", "readonly": wishes.read_only},
        "hostname": hostname,
        "mounts": _mounts(bound),
        "linux": {
            "cgroupsPath": _cgroup(cgroup_path),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in (*_NAMESPACES, *(("network",) if own_network else ()))],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "seccomp": seccomp.profile(host.architecture, with_32_bit),
        },
    }


def _mounts(bound: Sequence[BoundFile]) -> list[dict[str, Any]]:
    devpts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    return [
        _mount("/proc", "proc", "proc", *_QUIET),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *devpts),
        _mount("/dev/shm", "tmpfs", "shm", *_QUIET, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *_QUIET),
        _mount("/sys", "sysfs", "sysfs", *_QUIET, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_QUIET, "relatime", "ro"),
        *(
            _mount(file.path, "bind", file.source, "bind", "rprivate", "ro" if file.read_only else "rw")
            for file in bound
        ),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _cgroup(path: str) -> str:
    parts = path.strip("/").split("/")
    if not all(parts) or ".." in parts or "." in parts:
        raise InvalidArgument(f"set the cgroup: {path[:200]!r} is not a path below the hierarchies' roots")
    return "/" + "/".join(parts)
