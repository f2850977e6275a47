"""Unpacking whole images: in any order, once, in parallel, and with nothing left when it fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from hythe.oci import parse_platform
from hythe_bundle.applier import Applied, Applier, Limits
from scripts.lab.images import Image, ImageBuilder, Layer, index
from tests.fakes.blobs import LocalBlobs
from tests.fixtures.bundles import ORIGIN, Rig, mounted
from tests.fixtures.waiting import eventually, eventually_async


def layered(*layers: Layer) -> Image:
    """Return an image of these layers, lowest first."""
    builder = ImageBuilder().config(Cmd=["sh"])
    for layer in layers:
        builder = builder.layer(layer)
    return builder.build()


BASE = Layer().directory("tmp", mode=0o1777).directory("home").directory("home/u", mode=0o700, uid=5).file("a", b"1")
BIG = os.urandom(1_000_000)


async def leftovers(rig: Rig) -> tuple[set[str], list[str]]:
    """Return what is on disk and in the records."""
    await rig.snapshots.close()
    return rig.layer_directories(), [snapshot.name async for snapshot in rig.snapshots.walk()]


async def reported(rig: Rig, state: str, digest: str = "") -> None:
    """Wait until a layer, or the one of that digest, is said to be in `state`."""

    async def found() -> bool:
        return any(news.state == state and digest in ("", str(news.digest)) for news in rig.reports)

    await eventually_async(found, what=f"{digest} {state}")


async def test_image_is_unpacked_once(rig: Rig, tmp_path: Path) -> None:
    """All layers are merged as the image means it; a second unpack finds everything and does nothing."""
    image = layered(BASE, Layer().file("tmp/b", b"2").file("home/u/c", b"3"), Layer().whiteout("a").file("big", BIG))
    first = await rig.unpack(image)
    assert first.new_layers == 3 and first.image.manifest.hex == image.manifest.digest.removeprefix("sha256:")
    with mounted(await rig.snapshots.view("look", first.image.chain_id), tmp_path / "m"):
        found = {name: (tmp_path / "m" / name).stat() for name in ("tmp", "home", "home/u")}
        modes = {name: (oct(s.st_mode & 0o7777), s.st_uid) for name, s in found.items()}
        assert modes == {"tmp": ("0o1777", 0), "home": ("0o755", 0), "home/u": ("0o700", 5)}
        assert (tmp_path / "m" / "big").read_bytes() == BIG and not (tmp_path / "m" / "a").exists()
        assert sorted(os.listdir(tmp_path / "m")) == ["big", "home", "tmp"]  # noqa: PTH208 (names alone)
    assert {news.state for news in rig.reports} == {"fetching", "fetched", "unpacking", "unpacked"}
    opened = sum(rig.blobs.opened.values())
    second = await rig.unpack(image)
    assert second.new_layers == 0 and second.image.chain_id == first.image.chain_id
    assert sum(rig.blobs.opened.values()) == opened


async def test_known_image_survives_a_restart(rig: Rig, blobs: LocalBlobs) -> None:
    """After a restart an unpacked image needs neither blobs nor manifest."""
    image = layered(BASE, Layer().file("b"))
    first = await rig.unpack(image)
    await rig.close()
    again = Rig(rig.root, LocalBlobs(rig.root.parent / "empty"))
    found = await again.unpacker.unpack(ORIGIN, blobs.add(image), parse_platform("linux/amd64"), again.reports.append)
    assert (found.new_layers, found.image.chain_id) == (0, first.image.chain_id)
    assert found.image.config.cmd == ("sh",)
    await again.close()
    rig.database = again.database


async def test_shared_layers_are_applied_once(rig: Rig) -> None:
    """Two images on one base, wanted at the same time, fetch and apply it once."""
    base = Layer().file("big", BIG)
    images = [layered(base, Layer().file(name)) for name in ("one", "two")]
    done = await asyncio.gather(*(rig.unpack(image) for image in images), rig.unpack(images[0]))
    assert len({found.image.chain_id for found in done}) == 2
    assert set(rig.blobs.opened.values()) == {1}
    assert len([snapshot async for snapshot in rig.snapshots.walk()]) == 3


async def test_layers_arrive_in_any_order(rig: Rig) -> None:
    """A layer is applied when it arrives, whether or not what lies below is there, and committed on top of it."""
    image = layered(BASE, Layer().file("b"), Layer().file("c"))
    for layer in image.layers:
        rig.blobs.gates[layer.digest] = asyncio.Event()
    task = asyncio.create_task(rig.unpack(image))
    for layer in reversed(image.layers):
        rig.blobs.gates[layer.digest].set()
        state = "unpacked" if layer is image.layers[0] else "unpacking"
        await reported(rig, state, layer.digest)
    assert (await task).new_layers == 3
    assert [str(news.digest) for news in rig.reports if news.state == "unpacked"] == [b.digest for b in image.layers]


class Watched:
    """An applier that notes how many work at once."""

    def __init__(self, inner: Applier) -> None:
        self._inner = inner
        self.now = self.most = 0

    async def apply(self, *args: object, **options: object) -> Applied:
        """See `Applier.apply`."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._inner.apply(*args, **options)  # type: ignore[arg-type]
        finally:
            self.now -= 1


async def test_two_layers_are_applied_at_once_and_no_more(rig: Rig) -> None:
    """Two workers use the machine's processors; more would only take its memory."""
    watched = rig.unpacker._applier = Watched(rig.unpacker._applier)
    await rig.unpack(layered(*(Layer().file(f"f{i}", BIG) for i in range(5))))
    assert watched.most == 2


async def test_image_of_an_index_is_the_one_for_the_platform(rig: Rig) -> None:
    """An index gives the manifest for the platform that is asked for, and says what it has if there is none."""
    images = [ImageBuilder(architecture=name).layer(Layer().file(name)).build() for name in ("arm64", "amd64")]
    target = rig.blobs.add(index(images))
    for image, name in zip(images, ("arm64", "amd64"), strict=True):
        found = await rig.unpacker.unpack(ORIGIN, target, parse_platform(f"linux/{name}"), rig.reports.append)
        assert str(found.image.manifest) == image.manifest.digest
    with pytest.raises(NotFound, match="linux/amd64, linux/arm64"):
        await rig.unpacker.unpack(ORIGIN, target, parse_platform("linux/s390x"), rig.reports.append)


async def test_image_without_layers_is_an_image(rig: Rig) -> None:
    """An image of nothing unpacks to nothing."""
    found = await rig.unpack(layered())
    assert (found.new_layers, found.image.chain_id) == (0, "")


async def test_layer_other_than_the_config_says_is_refused(rig: Rig) -> None:
    """A layer whose uncompressed digest isn't the config's never becomes a snapshot."""
    builder = ImageBuilder(diff_ids=("sha256:" + "0" * 64,)).layer(BASE)
    with pytest.raises(DataLoss, match="it unpacks to") as raised:
        await rig.unpack(builder.build())
    assert raised.value.phase == "unpack layer"
    assert await leftovers(rig) == (set(), [])


@pytest.mark.parametrize("media_type", ["application/vnd.oci.image.layer.v1.tar+encrypted", "text/plain"])
async def test_layer_that_is_no_file_system_is_refused(rig: Rig, media_type: str) -> None:
    """An artefact that only looks like an image is refused before anything is fetched."""
    image = layered(BASE)
    manifest = json.loads(image.manifest.data)
    manifest["layers"][0]["mediaType"] = media_type
    changed = type(image.manifest)(json.dumps(manifest).encode(), image.manifest.media_type)
    with pytest.raises(InvalidArgument, match="not a file system layer"):
        await rig.unpack(Image(changed, image.blobs, image.os, image.architecture))
    assert not rig.blobs.opened


async def test_failed_layer_takes_the_others_with_it(rig: Rig) -> None:
    """When one layer fails, what was made for the image alone goes again, and what others need stays."""
    kept = await rig.unpack(layered(BASE))
    before = await leftovers(rig)
    image = layered(BASE, Layer().file("b", BIG), Layer().file("c"), Layer().file("d"))
    rig.blobs.gates[image.layers[3].digest] = asyncio.Event()
    rig.blobs.failures[image.layers[3].digest] = Unavailable("fetch: the registry is gone", service="registry")
    task = asyncio.create_task(rig.unpack(image))
    await reported(rig, "unpacked", image.layers[2].digest)
    rig.blobs.gates[image.layers[3].digest].set()
    with pytest.raises(Unavailable, match="registry is gone"):
        await task
    assert await leftovers(rig) == before
    assert (await rig.snapshots.stat(kept.image.chain_id)).kind == "committed"


async def test_failure_of_one_image_leaves_the_other_its_layers(rig: Rig) -> None:
    """A base that two images unpack together stays for the one that goes on."""
    bad, good = layered(BASE, Layer().file("bad")), layered(BASE, Layer().file("good"))
    rig.blobs.gates[good.layers[1].digest] = asyncio.Event()
    rig.blobs.gates[bad.layers[1].digest] = asyncio.Event()
    rig.blobs.failures[bad.layers[1].digest] = Unavailable("fetch: gone")
    tasks = [asyncio.create_task(rig.unpack(image)) for image in (bad, good)]
    await reported(rig, "unpacked")
    rig.blobs.gates[bad.layers[1].digest].set()
    with pytest.raises(Unavailable):
        await tasks[0]
    rig.blobs.gates[good.layers[1].digest].set()
    assert (await tasks[1]).image.chain_id


@pytest.mark.parametrize("moment", ["fetching", "unpacking", "unpacked"])
async def test_cancelled_unpack_leaves_nothing(rig: Rig, moment: str) -> None:
    """When nobody wants the image any more, at whatever moment, no file, record or process of it is left."""
    image = layered(BASE, Layer().file("b", BIG), Layer().file("c"))
    rig.blobs.gates[image.layers[2].digest] = asyncio.Event()
    task = asyncio.create_task(rig.unpack(image))
    await reported(rig, moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await leftovers(rig) == (set(), [])


@pytest.fixture
async def small_rig(small_disk: Callable[[int], Path], blobs: LocalBlobs) -> AsyncIterator[Rig]:
    """The bundle service on a disk of 24 MiB."""
    made = Rig(small_disk(24) / "bundle", blobs)
    yield made
    await made.close()


async def test_full_disk_leaves_nothing(small_rig: Rig) -> None:
    """An image that doesn't fit is refused with the phase and what to do, and all its bytes are free again."""
    free = shutil.disk_usage(small_rig.root).free
    image = layered(BASE, Layer().file("b", os.urandom(4 << 20)), Layer().file("c", os.urandom(32 << 20)))
    with pytest.raises(ResourceExhausted, match="no space left") as raised:
        await small_rig.unpack(image)
    assert raised.value.phase and "make room" in raised.value.next_step
    assert await leftovers(small_rig) == (set(), [])
    eventually(lambda: shutil.disk_usage(small_rig.root).free > free - (1 << 20))
    assert (await small_rig.unpack(layered(BASE))).new_layers == 1


async def test_below_the_reserve_nothing_is_begun(tmp_path: Path, blobs: LocalBlobs) -> None:
    """With too little free space no layer is fetched or applied at all."""
    rig = Rig(tmp_path / "bundle", blobs, Limits(reserve_bytes=1 << 60))
    with pytest.raises(ResourceExhausted, match="less than the reserve") as raised:
        await rig.unpack(layered(BASE))
    assert raised.value.outcome == "not started" and not blobs.opened
    await rig.close()


def archive_of_this_machine(target: Path) -> bytes:
    """Return an archive of some real programs, unpacked to `target` by GNU tar."""
    archive = subprocess.run(["tar", "-C", "/", "-c", "usr/lib/python3", "etc", "usr/sbin"], capture_output=True).stdout
    target.mkdir()
    subprocess.run(["tar", "-C", str(target), "-xp", "--numeric-owner"], input=archive, check=True)
    return archive


async def test_same_files_as_another_program_makes(rig: Rig, tmp_path: Path) -> None:
    """A layer of real programs comes out as GNU tar unpacks it: every name, mode, owner, time, link and byte."""
    archive = archive_of_this_machine(tmp_path / "tar")
    found = await rig.unpack(ImageBuilder().layer(archive, "none").build())
    with mounted(await rig.snapshots.view("look", found.image.chain_id), tmp_path / "m"):
        assert describe(tmp_path / "m") == describe(tmp_path / "tar")


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is to say of every file below `root`, but for directories that the archive doesn't name."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        if name in ("usr", "usr/lib"):
            continue
        content: object = ""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, links, content)
    return found
