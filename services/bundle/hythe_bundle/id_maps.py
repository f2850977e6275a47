"""What a user namespace in a container's config means for its root file system: the ids that files have on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hythe.ports.snapshots import Mount

ROOT = (0, 0)


def with_id_maps(mounts: tuple[Mount, ...], config: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return the mounts of a root file system so that its files have the ids of the config's user namespace, if it has one.

    Spec: OCI runtime-spec, "User namespace mappings"; containerd's mount options ``uidmap`` and ``gidmap``.
    """
    linux = config.get("linux", {})
    maps = tuple(
        f"{option}=" + ",".join(f"{each['containerID']}:{each['hostID']}:{each['size']}" for each in linux[key])
        for option, key in (("uidmap", "uidMappings"), ("gidmap", "gidMappings"))
        if linux.get(key)
    )
    return tuple(mount if mount.target else replace(mount, options=(*maps, *mount.options)) for mount in mounts)


def owner(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the user and group of the host that are the container's root."""
    linux = config.get("linux", {})
    user, group = (
        next((int(each["hostID"]) for each in linux.get(key) or () if each["containerID"] == 0), 0)
        for key in ("uidMappings", "gidMappings")
    )
    return user, group
