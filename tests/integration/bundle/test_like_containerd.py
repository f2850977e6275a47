"""What containerd's own applier makes of an image, recorded by `scripts.lab.record_ctr`, is what comes out here too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, InvalidArgument
from hythe.oci import default_platform
from scripts.lab import cut_layers, trees
from scripts.lab.record_ctr import DATA, image_of
from scripts.lab.unpack_cases import all_cases, digest
from tests.fakes.blobs import LocalBlobs
from tests.fixtures.bundles import ORIGIN, Rig, mounted
from tests.fixtures.targets import Canary

CASES = all_cases()
AT_ONCE = 3


@dataclass(frozen=True)
class Kept:
    """A case in which ours is another result on purpose.

    Attributes:
        why: reason.
        paths: what differs, as `trees.differences` says; empty where one of the two refuses the image.
    """

    why: str
    paths: tuple[str, ...] = ()


_LOWER = "the specification has whiteouts speak of lower layers alone, wherever in the archive they stand"
_LATE_TIMES = "containerd sets times of directories in the end, by names that then are links, files or nothing"
_BITS = "the kernel has no such number: containerd takes what 32 bits hold of it, or changes nothing"
_HIDDEN = "what a layer hides is no pattern: a directory that it makes anew is its own"
KEPT: Mapping[str, Kept] = {
    "whiteout, then the directory anew": Kept("containerd brings back what the layer removed", ("var/old/x",)),
    "whiteout, then something below it": Kept(_LOWER),
    "whiteout after the file": Kept(_LOWER),
    "whiteout after the directory": Kept(_LOWER),
    "whiteout in a layer, below its name in the next": Kept("containerd looks for a pattern below the mark and fails"),
    "whiteout of a file of the lowest layer itself": Kept(_LOWER, ("a",)),
    "WhiteoutSymlink, in one layer": Kept(_LOWER, ("localetc",)),
    "WhiteoutSymlinkPath, in one layer": Kept(_LOWER, ("etc/whitedout",)),
    "WhiteoutRelativePath, in one layer": Kept(_LOWER),
    "opaque directory, unnamed one in it": Kept(_HIDDEN, ("home/u: mode", "home/u: owner")),
    "opaque in a layer, unnamed below it in the next": Kept(_HIDDEN, ("home/u: mode", "home/u: owner")),
    "opaque root": Kept("overlayfs has no mark for a root that hides all below, so containerd's shows", ("below",)),
    "whiteouts in a layer whose root is opaque": Kept(
        "the same, and where nothing lies below a mark of overlayfs shows", ("below", "d/x", "d/z", "e/y")
    ),
    "unnamed directory where a file lies below, and one in it": Kept(
        "containerd looks for a pattern in the file and fails"
    ),
    "unnamed directory that is named later": Kept("the entry says all of it, in whatever order", ("var: xattrs",)),
    "hard link over a tree": Kept(_LATE_TIMES),
    "file, then directory, then link": Kept(_LATE_TIMES, ("a: mtime_ns",)),
    "directory, then file": Kept(_LATE_TIMES, ("d: mtime_ns",)),
    "directory with one in it, then file": Kept(_LATE_TIMES),
    "device number beyond all bounds": Kept(_BITS),
    "owner beyond 32 bits": Kept(_BITS),
    "owner of 32 bits, all set": Kept(_BITS),
    "owner below 0": Kept(_BITS),
    "contiguous file": Kept("POSIX has a reader that doesn't know the type take it for a regular file"),
    "global header named as a file": Kept(
        "the name of a global header is no path; containerd removes the file", ("f",)
    ),
    "holes, old GNU": Kept("Go reads the form and containerd's applier refuses what it read"),
}


@dataclass(frozen=True)
class Made:
    """What came of a case here: its tree, or why it was refused."""

    tree: trees.Tree | None
    refused: HytheError | None = None


async def make_all(root: Path, images: Mapping[str, Sequence[bytes]]) -> dict[str, Made]:
    """Unpack `images`, a few at a time, as the service does, and look at them as a container would."""
    since_ns = time.time_ns()
    rig = Rig(root / "bundle", LocalBlobs(root / "blobs"))
    turn = asyncio.Semaphore(AT_ONCE)
    digests = [rig.blobs.add(image_of(archives)) for archives in images.values()]

    async def make(number: int, target: Digest) -> Made:
        async with turn:
            try:
                found = await rig.unpacker.unpack(ORIGIN, target, default_platform(), lambda report: None)
            except HytheError as error:
                return Made(None, error)
            with mounted(await rig.snapshots.look(found.image.chain_id), root / f"view-{number}") as point:
                return Made(trees.describe(point, since_ns))

    try:
        made = await asyncio.gather(*(make(i, target) for i, target in enumerate(digests)))
    finally:
        await rig.close()
    return dict(zip(images, made, strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """What comes of every case."""
    directory = tmp_path_factory.mktemp("like-containerd")
    canary = Canary(directory / "outside")
    found = asyncio.run(make_all(directory, CASES))
    canary.check()
    return found


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, object]]:
    """What containerd made, by case."""
    record = trees.kept(DATA / "cases.json.xz")
    assert record["digests"] == {name: digest(case) for name, case in CASES.items()}, "record the cases again"
    return dict(record["made"])


def unlike(ours: trees.Tree, theirs: trees.Tree) -> tuple[str, ...]:
    """Return what differs, but for times that containerd leaves to the moment of unpacking.

    Those are of directories that a layer doesn't name: containerd gives one the time of the layer below and then makes
    something in it. Here it keeps that time.
    """
    found = trees.differences(ours, theirs)
    return tuple(
        key
        for key, (_, other) in found.items()
        if not (other == trees.NOW and ours[key.removesuffix(": mtime_ns")]["type"] == "directory")
    )


@pytest.mark.parametrize("name", CASES)
def test_image_comes_out_as_containerd_makes_it(
    name: str, made: dict[str, Made], recorded: dict[str, dict[str, object]]
) -> None:
    """Every byte, mode, owner, time, link, attribute and refusal is containerd's, but for the cases named with a reason."""
    ours, theirs = made[name], recorded[name]
    differing = None
    if ours.refused is not None:
        assert isinstance(ours.refused, (InvalidArgument, DataLoss)), ours.refused
        assert ours.refused.next_step
        assert ("refused" in theirs) != (name in KEPT), f"refused here: {ours.refused}"
    elif "refused" in theirs:
        assert name in KEPT and not KEPT[name].paths, f"containerd refuses it: {theirs['refused']}"
    else:
        assert ours.tree is not None
        differing = unlike(ours.tree, theirs["tree"])  # type: ignore[arg-type]  # JSON
        assert differing == (KEPT[name].paths if name in KEPT else ())


def test_real_image_comes_out_as_containerd_makes_it(tmp_path: Path) -> None:
    """Thirteen thousand entries of Debian's packages in six layers come out the same, each file by its first bytes."""
    archives = cut_layers.kept(DATA / "dev-layers.tar.xz")
    record = trees.kept(DATA / "dev.json.xz")
    assert record["digest"] == digest(tuple(archives))
    ours = asyncio.run(make_all(tmp_path, {"dev": archives}))["dev"].tree
    assert ours is not None and len(ours) > 13_000
    assert unlike(ours, record["made"]["tree"]) == ()
