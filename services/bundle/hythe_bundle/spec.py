"""The OCI spec of a container: a pure function of what was asked for, the image, and what is so on the host.

Defaults are those of the other engines: 14 capabilities, none inheritable or ambient, a seccomp profile, what tells of the
host masked, the rest of /sys and the switches of /proc read-only, a device list that starts with nothing. Each wish is
checked by the module that fulfils it, before anything is made (ADR 0029).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig
from hythe_bundle import (
    capabilities,
    command,
    devices,
    hooks,
    mounts,
    namespaces,
    notes,
    paths,
    process,
    resources,
    seccomp,
    seccomp_profile,
    sysctls,
)
from hythe_bundle.host_facts import Found, HostFacts
from hythe_bundle.mounts import BoundFile
from hythe_bundle.users import User
from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import SecurityWishes, Wishes

OCI_VERSION = "1.0.2"
UNCONFINED = "unconfined"


@dataclass(frozen=True, slots=True)
class SpecRequest:
    """What one container's spec is made from, beside the host.

    Attributes:
        container_id: 32 hex digits.
        user: as whom it runs, looked up in the image.
        cgroup_path: path of the container's cgroup below each hierarchy's root.
        bound: files of Hythe's own to bind into the container.
        volumes: mounts for the volumes of request and image.
        with_32_bit: whether the image has programs for the processor's 32-bit twin.
        trace: trace context as headers, for hooks.
    """

    container_id: str
    wishes: Wishes
    config: ImageConfig
    user: User
    cgroup_path: str
    bound: Sequence[BoundFile] = ()
    volumes: Sequence[ResolvedMount] = ()
    with_32_bit: bool = False
    trace: Mapping[str, str] = field(default_factory=dict, hash=False)


def make(request: SpecRequest, host: HostFacts, found: Found) -> dict[str, Any]:
    """Return ``config.json`` as an object. Limits without a wish stay as the runtime inherits them.

    Args:
        found: what the paths in the wishes mean on this host.

    Raises:
        InvalidArgument: a wish or the image's config can't be fulfilled anywhere.
        FailedPrecondition: this host can't fulfil a wish.
        NotFound: a path of the host that a wish names isn't there.
        Unimplemented: there is no seccomp profile for this processor.

    Spec: OCI runtime-spec 1.0.2, "Configuration" and "Linux Container Configuration".
    """
    wishes, config = request.wishes, request.config
    hostname = command.hostname(wishes, request.container_id, host.name)
    own = capabilities.granted(wishes.security, host.capabilities)
    own_namespaces = namespaces.make(wishes)
    maps = namespaces.id_maps(wishes.namespaces)
    namespaces.check_user(wishes.namespaces, request.user)
    nodes, device_rules = devices.make(wishes, found)
    made: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": process.make(wishes, config, request.user, hostname, own, host),
        "root": {"path": "rootfs", "readonly": wishes.read_only},
        "mounts": mounts.make(wishes, request.volumes, request.bound, host, found),
        "annotations": notes.make(wishes, config),
        "linux": {
            "cgroupsPath": _cgroup(request.cgroup_path),
            "resources": {"devices": device_rules} | resources.make(wishes.resources, host, found),
            "namespaces": own_namespaces,
            "maskedPaths": paths.masked(wishes.security),
            "readonlyPaths": paths.read_only(wishes.security),
            **maps,
        },
    }
    linux = made["linux"]
    for key, value in (
        ("devices", nodes),
        ("sysctl", sysctls.make(wishes)),
        ("rootfsPropagation", mounts.root_propagation(wishes)),
        ("seccomp", _seccomp(wishes.security, own, request.with_32_bit, host)),
    ):
        if value:
            linux[key] = value
    if wishes.namespaces.uts != "host":
        made["hostname"] = hostname
    if programs := hooks.make(wishes, request.trace):
        made["hooks"] = programs
    return made


def _seccomp(wishes: SecurityWishes, own: tuple[str, ...], with_32_bit: bool, host: HostFacts) -> dict[str, Any] | None:
    """Return ``linux.seccomp``; None without a filter. A privileged container has none but one that is asked for."""
    if wishes.seccomp == UNCONFINED or (wishes.privileged and not wishes.seccomp):
        return None
    if wishes.seccomp:
        return seccomp_profile.resolve(wishes.seccomp, host.architecture, own, host.kernel)
    return seccomp.profile(host.architecture, with_32_bit, own)


def _cgroup(path: str) -> str:
    parts = path.strip("/").split("/")
    if not all(parts) or ".." in parts or "." in parts:
        raise InvalidArgument(f"set the cgroup: {path[:200]!r} is not a path below the hierarchies' roots")
    return "/" + "/".join(parts)
