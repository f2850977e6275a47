"""What a user namespace in a container's config means for its root file system: the ids that files have on the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hythe.ports.snapshots import Mount

ROOT = (0, 0)
_END = (1 << 32) - 1
"""The first number that is no id."""


def with_id_maps(mounts: tuple[Mount, ...], config: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return the mounts of a root file system so that its files have the ids of the config's user namespace, if it has one.

    Spec: OCI runtime-spec, "User namespace mappings"; containerd's mount options ``uidmap`` and ``gidmap``.
    """
    maps = tuple(_option(name, ranges) for name, ranges in _maps(config))
    return tuple(mount if mount.target else replace(mount, options=(*maps, *mount.options)) for mount in mounts)


def owner(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the user and group of the host that are the container's root."""
    linux = config.get("linux", {})
    user, group = (
        next((int(each["hostID"]) for each in linux.get(key) or () if each["containerID"] == 0), 0)
        for key in ("uidMappings", "gidMappings")
    )
    return user, group


def has_own_users(config: Mapping[str, Any]) -> bool:
    """Tell whether the config has a user namespace with maps, so that ids in it are others than on the host."""
    return bool(_maps(config))


def options_back(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the mount options that show files which have the ids of the host with those that the config's container knows.

    None if it has no user namespace. Ids of the host that are none of the container's become ids that it doesn't have, each
    one of its own, so that no file is unreadable for want of an owner.
    """
    return tuple(_option(name, _back(ranges)) for name, ranges in _maps(config))


def _maps(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """Return the mount option and the ranges (container, host, size) of each map of the config."""
    linux = config.get("linux", {})
    return [
        (name, [(int(each["containerID"]), int(each["hostID"]), int(each["size"])) for each in linux[key]])
        for name, key in (("uidmap", "uidMappings"), ("gidmap", "gidMappings"))
        if linux.get(key)
    ]


def _option(name: str, ranges: Iterable[tuple[int, int, int]]) -> str:
    return f"{name}=" + ",".join(f"{container}:{host}:{size}" for container, host, size in ranges)


def _back(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the ranges the other way round, and all other ids in their order."""
    back = [(host, container, size) for container, host, size in ranges]
    others = _gaps((container, size) for container, _, size in ranges)
    for start, size in _gaps((host, size) for _, host, size in ranges):
        first, left = start, size
        while left:
            other, room = others.pop(0)
            taken = min(left, room)
            back.append((first, other, taken))
            first, left = first + taken, left - taken
            if room > taken:
                others.insert(0, (other + taken, room - taken))
    return back


def _gaps(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return start and size of each range of ids that none of `ranges`, which do not overlap, has."""
    gaps, end = [], 0
    for start, size in sorted(ranges):
        if start > end:
            gaps.append((end, start - end))
        end = start + size
    if end < _END:
        gaps.append((end, _END - end))
    return gaps
