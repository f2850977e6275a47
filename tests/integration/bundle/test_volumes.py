"""Volumes come from their own port, and nothing is made for a request that can't be fulfilled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hythe.errors import InvalidArgument
from hythe.oci import default_platform
from hythe_bundle.adapters.bundle_directories import BundleDirectories
from hythe_bundle.adapters.foreign_disk import LocalForeignDisk
from hythe_bundle.adapters.host import DiskRoom
from hythe_bundle.adapters.local_host import LocalHost
from hythe_bundle.bundle import Bundles
from hythe_bundle.describing import Descriptions
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import MountWish, NamespaceWishes, RlimitWish, Wishes
from scripts.lab.images import busybox
from tests.fixtures.bundles import Rig

WISH = MountWish("volume", "/data", "name", no_copy=True)


@dataclass
class Directories:
    """Keeps each volume in a directory of that name; notes what it was asked for."""

    root: Path
    asked: list[tuple[str, str, tuple[MountWish, ...], tuple[str, ...]]] = field(default_factory=list)

    async def resolve(
        self,
        namespace: str,
        container_id: str,
        chain_id: str,
        wanted: Sequence[MountWish],
        of_image: Sequence[str],
        namespaces: NamespaceWishes,
    ) -> tuple[ResolvedMount, ...]:
        """See `hythe_bundle.volumes.VolumePlaces.resolve`."""
        assert chain_id
        self.asked.append((namespace, container_id, tuple(wanted), tuple(of_image)))
        places = {wish.target: wish.source for wish in wanted} | {path: path.strip("/") for path in of_image}
        return tuple(ResolvedMount("bind", str(self.root / name), target) for target, name in places.items())

    def names_of(self, container_id: str) -> list[str]:
        """See `VolumePlaces.names_of`."""
        return [wish.source for _, known, wanted, _ in self.asked if known == container_id for wish in wanted]

    async def release(self, container_id: str) -> None:
        """Keep everything."""

    async def abandon(self, container_id: str) -> None:
        """Keep everything."""

    async def recover(self, used: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """Know everything already."""


def bundles(rig: Rig, volumes: Directories) -> Bundles:
    """Return the bundles of `rig` on a host that has volumes."""
    platform = default_platform()
    files, room = BundleDirectories(rig.root), DiskRoom(rig.root, 0)
    descriptions = Descriptions(ImageFacts(rig.snapshots), LocalHost(platform), volumes, LocalForeignDisk())
    return Bundles(rig.snapshots, rig.unpacker, descriptions, files, room, platform, volumes)


async def test_volumes_of_request_and_image_are_mounted(rig: Rig, tmp_path: Path) -> None:
    """Each is asked for once by what names it, and stands in the spec where it was wanted."""
    volumes = Directories(tmp_path / "volumes")
    target = rig.blobs.add(busybox().config(Volumes={"/data": {}, "/of/image/": {}}).build())
    wanted = rig.request(target, Wishes(mounts=(WISH,)))
    bundle = await bundles(rig, volumes).prepare(wanted, rig.reports.append)
    assert volumes.asked == [("default", wanted.id, (WISH,), ("/of/image",))]
    mounts = json.loads((bundle.path / "config.json").read_text())["mounts"]
    assert json.loads((bundle.path / "record.json").read_text())["volumes"] == ["name"]
    sources = {mount["destination"]: mount["source"] for mount in mounts}
    assert sources["/data"] == f"{volumes.root}/name" and sources["/of/image"] == f"{volumes.root}/of/image"


async def test_request_that_cannot_be_fulfilled_makes_nothing(rig: Rig, tmp_path: Path) -> None:
    """No volume and no directory of the host is made for a container that is refused."""
    volumes = Directories(tmp_path / "volumes")
    create = MountWish("bind", "/made", str(tmp_path / "made"), create=True)
    wishes = Wishes(mounts=(WISH, create), rlimits=(RlimitWish("none", 1, 1),))
    wanted = rig.request(rig.blobs.add(busybox().build()), wishes)
    with pytest.raises(InvalidArgument):
        await bundles(rig, volumes).prepare(wanted, rig.reports.append)
    assert volumes.asked == [] and not (tmp_path / "made").exists()
