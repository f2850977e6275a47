"""A user namespace in the config gives the root file system its ids."""

from __future__ import annotations

from typing import Any

from hythe.ports.snapshots import Mount
from hythe_bundle.id_maps import options_back, owner, with_id_maps

RANGES = [{"containerID": 1000, "hostID": 1000, "size": 1}, {"containerID": 0, "hostID": 100000, "size": 1000}]
CONFIG = {"linux": {"uidMappings": RANGES, "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 1000}]}}
MOUNTS = (Mount("overlay", "overlay", "", ("index=off",)), Mount("tmpfs", "tmpfs", "data"))


def test_mounts_of_a_container_with_a_user_namespace_have_its_id_maps() -> None:
    """What the config says of users and groups is what the root's files get; mounts in it stay as they are."""
    maps = ("uidmap=1000:1000:1,0:100000:1000", "gidmap=0:200000:1000")
    assert with_id_maps(MOUNTS, CONFIG) == (Mount("overlay", "overlay", "", (*maps, "index=off")), MOUNTS[1])
    assert owner(CONFIG) == (100000, 200000)


def test_config_without_a_user_namespace_changes_nothing() -> None:
    """Root in the container is root then."""
    configs: tuple[dict[str, Any], ...] = ({}, {"linux": {}}, {"linux": {"uidMappings": None}})
    for config in configs:
        assert with_id_maps(MOUNTS, config) == MOUNTS and owner(config) == (0, 0)


def test_options_back_undo_the_map_and_lose_no_id() -> None:
    """Each id of the host has one that the container sees: its own where the container has it, else one it doesn't have."""
    users, groups = options_back(CONFIG)
    assert users.startswith("uidmap=1000:1000:1,100000:0:1000,") and groups.startswith("gidmap=200000:0:1000,")
    for option in (users, groups):
        ranges = [tuple(map(int, each.split(":"))) for each in option.partition("=")[2].split(",")]
        for ids in ([(host, size) for host, _, size in ranges], [(seen, size) for _, seen, size in ranges]):
            end = 0
            for start, size in sorted(ids):
                assert start == end and size > 0
                end += size
            assert end == (1 << 32) - 1


def test_options_back_of_a_container_with_the_users_of_the_host_are_none() -> None:
    """Its files have the ids that they have."""
    assert options_back({}) == () and options_back({"linux": {"uidMappings": []}}) == ()
