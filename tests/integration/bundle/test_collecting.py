"""Collections while images are unpacked and containers come and go: nothing that is needed goes, and nothing else stays."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from hythe import outbox_table
from hythe.errors import NotFound
from hythe.labels import GC_ROOT
from hythe.oci import default_platform
from hythe_bundle.disk_report import DiskReport
from hythe_bundle.user_snapshots import UserSnapshots
from hythe_bundle.wishes import MountWish, Wishes
from scripts.lab.images import Image, ImageBuilder, Layer
from tests.contract.test_snapshots_told import replay
from tests.fixtures.bundles import ORIGIN, Rig, mounted
from tests.fixtures.collecting import Collections, collector_of


@pytest.fixture
def collections(rig: Rig) -> Collections:
    """Collections of the service's snapshots."""
    return Collections(collector_of(rig.database, rig.snapshots))


def image(*words: str) -> Image:
    """Return an image with a layer for each word."""
    builder = ImageBuilder().config(Cmd=["sh"])
    for word in words:
        builder = builder.layer(Layer().file(word, word.encode()))
    return builder.build()


async def names(rig: Rig) -> set[str]:
    """Return the names of all snapshots."""
    return {found.name async for found in rig.snapshots.walk()}


async def test_collected_image_is_unpacked_again(rig: Rig, collections: Collections) -> None:
    """An image whose layers were collected costs the next container an unpack, and nothing else."""
    made = image("a", "b")
    unpacked = await rig.unpack(made)
    assert len(await collections.run([unpacked.image.chain_id])) == 0
    assert (await rig.unpack(made)).new_layers == 0
    assert len(await collections.run()) == 2
    assert (await rig.unpack(made)).new_layers == 2
    assert await rig.snapshots.read_file(unpacked.image.chain_id, "/b", 9) == b"b"


async def test_image_that_is_asked_for_during_a_collection_stays(rig: Rig, collections: Collections) -> None:
    """Who hears in mid-collection that an image is unpacked already can rely on it."""
    made = image("a", "b")
    await rig.unpack(made)
    await collections.begin()
    await collections.mark()
    assert (await rig.unpack(made)).new_layers == 0
    assert [page.removed for page in await collections.sweep()] == [()]


async def test_container_that_is_prepared_during_a_collection_stays(rig: Rig, collections: Collections) -> None:
    """A container of which metadata did not know when it was asked keeps its root file system, and all later collections too."""
    digest = rig.blobs.add(image("a", "b"))
    await collections.begin()
    await collections.mark()
    bundle = await rig.bundles.prepare(rig.request(digest), rig.reports.append)
    assert [page.removed for page in await collections.sweep()] == [()]
    assert await collections.run() == set()
    await rig.bundles.release("default", bundle.path.name)
    assert len(await collections.run()) == 2


async def test_container_that_is_released_during_a_sweep_is_gone_once(rig: Rig, collections: Collections) -> None:
    """A release between two pages of a sweep is no error of either, and the layers go with the next collection."""
    bundle = await rig.bundles.prepare(rig.request(rig.blobs.add(image("a", "b"))), rig.reports.append)
    await rig.unpack(image("c"))
    await collections.begin()
    await collections.mark()
    sweeping = asyncio.create_task(collections.sweep(limit=1))
    await rig.bundles.release("default", bundle.path.name)
    await sweeping
    await collections.run()
    assert await names(rig) == set()


async def test_long_request_keeps_what_it_reads(rig: Rig, collections: Collections) -> None:
    """Work that began before a collection, and looks at nothing new, keeps what it works with until it ends."""
    chain_id = (await rig.unpack(image("a", "b"))).image.chain_id
    with rig.snapshots.uses.request():
        await rig.snapshots.look(chain_id)
        assert await collections.run() == set()
    assert len(await collections.run()) == 2


async def test_label_of_a_user_keeps_what_it_names_from_the_moment_it_is_set(
    rig: Rig, collections: Collections
) -> None:
    """A reference that is made in mid-collection is kept, though the collection marked without it."""
    users = UserSnapshots(rig.snapshots)
    chain_id = (await rig.unpack(image("a"))).image.chain_id
    await users.prepare("mine", "", {GC_ROOT: "x"})
    await collections.begin()
    await collections.mark()
    await users.label("mine", {f"containerd.io/gc.ref.snapshot.{rig.snapshots.name}": chain_id, "other": "nothing"})
    assert [page.removed for page in await collections.sweep()] == [()]
    assert await collections.run() == set()
    await users.remove("mine")
    assert await collections.run() == {chain_id}


async def test_nothing_needed_goes_while_everything_happens_at_once(
    rig: Rig, collections: Collections, tmp_path: Path
) -> None:
    """Containers come and go while one collection follows the other: each has all its files; at the end nothing is left."""
    images = [image("a"), image("a", "b"), image("a", "b", "c"), image("d"), image("a", "e")]
    digests = [rig.blobs.add(one) for one in images]
    dice, running, removed = random.Random(5), True, 0

    async def live(worker: int) -> None:
        for turn in itertools.count():
            if turn >= 12 and removed >= 20:
                return
            chosen = dice.randrange(len(images))
            with rig.snapshots.uses.request():
                bundle = await rig.bundles.prepare(rig.request(digests[chosen]), rig.reports.append)
            for _ in range(dice.randrange(20)):
                await asyncio.sleep(0)
            with mounted(bundle.mounts, tmp_path / f"m{worker}") as point:
                words = sorted(path.name for path in point.iterdir())
            assert words == [["a"], ["a", "b"], ["a", "b", "c"], ["d"], ["a", "e"]][chosen]
            await rig.bundles.release("default", bundle.path.name)

    async def collect() -> None:
        nonlocal removed
        while running:
            removed += len(await collections.run())
            await asyncio.sleep(0)

    collecting = asyncio.create_task(collect())
    await asyncio.gather(*(live(worker) for worker in range(4)))
    running = False
    await collecting
    await collections.run()
    assert await names(rig) == set()
    events = rig.database.look(lambda connection: outbox_table.outgoing(connection, 0, 10_000))
    assert replay(events) == {} and len(events) > 100
    await rig.snapshots.close()
    assert rig.layer_directories() == set()


async def test_usage_counts_what_is_used_and_what_a_collection_would_free(rig: Rig, collections: Collections) -> None:
    """Layers, containers and volumes are counted with their sizes; what nothing refers to can be freed."""
    chain_id = (await rig.unpack(image("a", "b"))).image.chain_id
    free = (await rig.unpack(image("c"))).image.chain_id
    wishes = Wishes(mounts=(MountWish("volume", "/data", "named"),))
    await rig.bundles.prepare(rig.request(rig.blobs.add(image("a", "b")), wishes), rig.reports.append)
    (await rig.volumes.create("default", "", {})).data.joinpath("free").write_bytes(bytes(10_000))
    rig.volumes.find("default", "named").data.joinpath("used").write_bytes(bytes(10_000))
    await rig.snapshots.view("shown", chain_id)
    report = DiskReport(rig.snapshots, collections.collector, rig.volumes)
    rows, unmeasured = await report.rows([])
    counted = {row.kind: (row.total, row.active) for row in rows}
    assert counted == {"snapshots": (3, 2), "containers": (1, 1), "volumes": (2, 1)} and unmeasured == 0
    by_kind = {row.kind: row for row in rows}
    assert by_kind["snapshots"].reclaimable_bytes == (await rig.snapshots.usage(free)).size_bytes > 0
    assert by_kind["containers"].reclaimable_bytes == 0 < by_kind["containers"].size_bytes
    assert 0 < by_kind["volumes"].reclaimable_bytes < by_kind["volumes"].size_bytes
    rows, _ = await report.rows(None)
    assert [(row.active, row.reclaimable_bytes) for row in rows[:2]] == [(3, 0), (1, 0)]
    assert await collections.run() == {free, "shown"}


async def test_unpack_of_a_known_image_waits_for_its_removal(rig: Rig, collections: Collections) -> None:
    """Whenever an image is asked for while it is being collected, it is there when the answer says so."""
    made = image("a", "b")
    digest = rig.blobs.add(made)
    for turns in range(0, 60, 3):
        await rig.unpack(made)
        await collections.begin()
        await collections.mark()
        sweeping = asyncio.create_task(collections.sweep())
        for _ in range(turns):
            await asyncio.sleep(0)
        unpacked = await rig.unpacker.unpack(ORIGIN, digest, default_platform(), rig.reports.append)
        await sweeping
        try:
            assert await rig.snapshots.read_file(unpacked.image.chain_id, "/b", 9) == b"b"
        except NotFound as error:
            raise AssertionError(f"after {turns} turns: {error.message}") from error
