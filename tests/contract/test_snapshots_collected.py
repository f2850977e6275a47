"""Collecting snapshots: what nobody refers to goes, from the top down, and what anybody uses stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.labels import GC_ROOT
from hythe.linux import libc
from tests.contract.test_snapshots_crashes import recorded
from tests.contract.test_snapshots_told import replay, told
from tests.fixtures.collecting import LIFE, Collections, collector_of, store_at
from tests.fixtures.snapshots import Body, commit, run_process, shown, tree, write


@pytest.fixture
def collections(body: Body) -> Collections:
    """Collections of the snapshotter's snapshots."""
    return Collections(collector_of(body.database, body.snapshots))


async def names(body: Body) -> set[str]:
    """Return the names of all snapshots."""
    return {found.name async for found in body.snapshots.walk()}


async def layers(body: Body) -> None:
    """Make two images on one layer, the second with two layers of its own."""
    await commit(body.snapshots, "base", "", write(a="1"))
    await commit(body.snapshots, "one", "base", write(b="1"))
    await commit(body.snapshots, "two", "base", write(c="1"))
    await commit(body.snapshots, "three", "two", write(d="1"))


async def test_what_metadata_refers_to_stays_with_all_below_it(
    body: Body, collections: Collections, tmp_path: Path
) -> None:
    """The layers of an image that has a name stay and are whole; all others go, with their files and what they took."""
    await layers(body)
    await collections.begin()
    assert (await collections.mark(["one"])).unmarked == 2
    [page] = await collections.sweep()
    assert (page.removed, page.carried_out, page.next) == (("three", "two"), True, "")
    assert page.freed_bytes > 0
    assert await names(body) == {"base", "one"}
    with shown(await body.snapshots.look("one"), tmp_path / "m") as point:
        assert tree(point) == {"a": "1", "b": "1"}
    await body.snapshots.close()
    assert len(body.places()) == 2
    assert collections.reasons == [""]


async def test_roots_add_up_over_requests(body: Body, collections: Collections) -> None:
    """Metadata says what it refers to in as many requests as it likes; each answer counts what is left."""
    await layers(body)
    await collections.begin()
    assert [(await collections.mark([name])).unmarked for name in ("one", "nowhere", "two")] == [2, 2, 1]
    assert [page.removed for page in await collections.sweep()] == [("three",)]


async def test_dry_run_tells_and_removes_nothing(body: Body, collections: Collections) -> None:
    """What a dry run names is what a sweep then removes."""
    await layers(body)
    await body.snapshots.prepare("key", "one")
    await collections.begin()
    await collections.mark()
    [told] = await collections.sweep(dry_run=True)
    assert not told.carried_out and await names(body) == {"base", "one", "two", "three", "key"}
    [done] = await collections.sweep()
    assert (done.removed, done.freed_bytes) == (told.removed, told.freed_bytes)
    assert await names(body) == set()


async def test_sweep_goes_on_where_the_last_page_ended(body: Body, collections: Collections) -> None:
    """However small the pages, all that may go goes, what lies on top first."""
    await layers(body)
    await collections.begin()
    await collections.mark()
    told = [page.removed for page in await collections.sweep(limit=1, dry_run=True)]
    assert (
        told
        == [page.removed for page in await collections.sweep(limit=1)]
        == [("three",), ("one",), ("two",), ("base",)]
    )
    with pytest.raises(InvalidArgument):
        await collections.collector.sweep(collections.generation, LIFE, "nonsense", 9, dry_run=False)


async def test_labelled_snapshot_is_kept_by_nobody_else(body: Body, collections: Collections) -> None:
    """``containerd.io/gc.root`` keeps a snapshot of any kind, and one without it goes, also if it can be written to."""
    await layers(body)
    await body.snapshots.prepare("kept", "one", labels={GC_ROOT: "2026-01-01T00:00:00Z"})
    await body.snapshots.view("shown", "two", labels={GC_ROOT: "2026-01-01T00:00:00Z"})
    await body.snapshots.prepare("left", "three")
    assert await collections.run() == {"left", "three"}
    await body.snapshots.update("kept", {}, only=[GC_ROOT])
    assert await collections.run() == {"kept", "one"}


async def test_mounted_snapshot_stays_until_it_is_unmounted(
    body: Body, collections: Collections, tmp_path: Path
) -> None:
    """What shows somewhere on the host stays, with what shows through it, and so does what a bind mount of it shows."""
    await layers(body)
    mounts = await body.snapshots.prepare("key", "one")
    other = await body.snapshots.look("three")
    with shown(mounts, tmp_path / "m"), shown(other, tmp_path / "o"):
        await collections.begin()
        marked = await collections.mark()
        assert {name for page in await collections.sweep(dry_run=True) for name in page.removed} <= {"two", "base"}
        assert marked.unmarked <= 2  # a copy shows nothing of what it was made from
        assert await collections.run() <= {"two", "base"}
        assert tree(tmp_path / "m") == {"a": "1", "b": "1"}
        assert tree(tmp_path / "o") == {"a": "1", "c": "1", "d": "1"}
    assert {"key", "one", "three"} <= await collections.run()
    assert await names(body) == set()


async def test_bind_mount_of_a_place_keeps_it(body: Body, collections: Collections, tmp_path: Path) -> None:
    """Also a mount that Hythe did not make, of some directory in a snapshot, keeps it."""
    await commit(body.snapshots, "base", "", write(deep__a="1"))
    await commit(body.snapshots, "other", "", write(a="1"))
    place = next(path for path in (body.directory / "snapshots").glob("*/fs/deep"))
    (tmp_path / "m").mkdir()
    libc.mount(str(place), str(tmp_path / "m"), "", libc.MS_BIND, "")
    try:
        assert await collections.run() == {"other"}
    finally:
        libc.umount(str(tmp_path / "m"), 0)
    assert await collections.run() == {"base"}


@pytest.mark.parametrize("verb", ["prepare", "view", "stat", "mounts", "look", "changes_in", "read_file", "update"])
async def test_what_is_asked_for_during_a_collection_stays(body: Body, collections: Collections, verb: str) -> None:
    """Whoever is told of a snapshot after the begin can rely on it until the next collection."""
    await layers(body)
    await body.snapshots.prepare("key", "one")
    await collections.begin()
    await collections.mark()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "prepare": lambda: body.snapshots.prepare("new", "one"),
        "view": lambda: body.snapshots.view("new", "one"),
        "stat": lambda: body.snapshots.stat("one"),
        "mounts": lambda: body.snapshots.mounts("key"),
        "look": lambda: body.snapshots.look("one"),
        "changes_in": lambda: body.snapshots.changes_in("one"),
        "read_file": lambda: body.snapshots.read_file("one", "/b", 9),
        "update": lambda: body.snapshots.update("one", {"x": "y"}),
    }
    await calls[verb]()
    swept = {name for page in await collections.sweep() for name in page.removed}
    assert {"two", "three"} <= swept and not swept & {"one", "base"}
    await collections.run()
    assert await names(body) == set()


async def test_layer_that_is_committed_during_a_collection_stays(body: Body, collections: Collections) -> None:
    """An image that is unpacked in the middle of a collection is not half there afterwards."""
    await layers(body)
    await collections.begin()
    await commit(body.snapshots, "four", "three", write(e="1"))
    await collections.mark()
    assert {name for page in await collections.sweep() for name in page.removed} == {"one"}


async def test_what_is_being_removed_is_waited_for(body: Body, collections: Collections) -> None:
    """Who asks for a snapshot while the sweep removes it hears that it isn't there, not that it is."""
    await layers(body)
    await collections.begin()
    await collections.mark()
    sweeping = asyncio.create_task(collections.sweep())
    while not sweeping.done():
        for name in ("three", "two", "one", "base"):
            try:
                await body.snapshots.stat(name)
            except NotFound:
                continue
            assert name in await names(body)
        await asyncio.sleep(0)
    for page in await sweeping:
        assert not set(page.removed) & await names(body)


async def test_what_refers_to_content_is_told(body: Body, collections: Collections) -> None:
    """Labels that refer to blobs are told of what is kept, so that the blobs stay as well."""
    digest = "sha256:" + "d" * 64
    await layers(body)
    await body.snapshots.update("one", {"containerd.io/gc.ref.content.x": digest})
    await body.snapshots.update(
        "two", {"containerd.io/gc.ref.content.x": digest, "containerd.io/gc.bref.content": digest}
    )
    await body.snapshots.update("three", {f"containerd.io/gc.ref.snapshot.{body.snapshots.name}": "one"})
    await collections.begin()
    told = (await collections.mark()).references
    assert [(one.snapshot, one.kind, one.name, one.back) for one in told] == [("two", "content", digest, True)]
    told = (await collections.mark(["three"])).references
    assert {(one.snapshot, one.back) for one in told} == {("one", False), ("two", False), ("two", True)}


async def test_sweep_of_another_collection_or_life_is_refused(body: Body, collections: Collections) -> None:
    """A sweep that comes late, or after a restart, or before anything was marked, removes nothing."""
    await layers(body)
    collector = collections.collector
    with pytest.raises(FailedPrecondition):
        await collector.sweep(1, LIFE, "", 9, dry_run=False)
    await collections.begin()
    with pytest.raises(FailedPrecondition, match="nothing was marked"):
        await collector.sweep(1, LIFE, "", 9, dry_run=False)
    await collections.mark()
    for generation, instance in ((1, "another life"), (2, LIFE)):
        with pytest.raises(FailedPrecondition, match="hasn't begun in this life"):
            await collector.sweep(generation, instance, "", 9, dry_run=False)
        with pytest.raises(FailedPrecondition, match="hasn't begun in this life"):
            await collector.mark(generation, instance, ())
    await collections.begin()
    with pytest.raises(FailedPrecondition):
        await collector.sweep(1, LIFE, "", 9, dry_run=False)
    assert len(await names(body)) == 4


async def test_store_that_is_not_trusted_removes_nothing(body: Body, collections: Collections) -> None:
    """A new, a restored and an older metadata store only hear what would go, until somebody has confirmed it."""
    await layers(body)
    await collections.begin()
    for mark, reason in (
        (store_at(2, store_id="6" * 32), "unknown store"),
        (store_at(2, era=2), "restored store"),
        (store_at(2, revision=0), "older store"),
        (store_at(3, revision=9), "older store"),
    ):
        collector = collector_of(body.database, body.snapshots)  # as after a restart
        begun = await collector.begin(mark)
        assert (begun.trusted, begun.reason) == (False, reason)
        await collector.mark(mark.generation, LIFE, ())
        told = await collector.sweep(mark.generation, LIFE, "", 9, dry_run=False)
        assert len(told.removed) == 4 and not told.carried_out
    assert len(await names(body)) == 4
    await collections.collector.trust(store_at(9, era=2))
    assert (await collections.collector.begin(store_at(10, era=2))).trusted
    await collections.collector.mark(10, LIFE, ())
    assert (await collections.collector.sweep(10, LIFE, "", 9, dry_run=False)).carried_out
    assert await names(body) == set()


async def test_host_explains_what_keeps_a_snapshot(body: Body, collections: Collections) -> None:
    """Asked about a layer the host names all that lies on it, why it keeps any of it, and how large the layer is."""
    await layers(body)
    await body.snapshots.prepare("key", "three", labels={GC_ROOT: "x"})
    found = await collections.collector.explain("two")
    assert [(node.name, node.parent) for node in found.above] == [("two", "base"), ("three", "two"), ("key", "three")]
    assert {name: why for name, why in found.held.items() if why} == {"key": f"label {GC_ROOT}"}
    assert found.size_bytes > 0
    assert (await collections.collector.explain("gone")).above == []


@pytest.mark.parametrize("terms", ["kill", "1*off->kill", "2*off->kill"])
@pytest.mark.parametrize("point", ["gc.chosen", "snapshot.removed", "gc.removed"])
async def test_killed_sweep_loses_nothing_and_leaves_nothing(
    body: Body, collections: Collections, tmp_path: Path, point: str, terms: str
) -> None:
    """SIGKILL anywhere in a sweep: what is kept is whole, no files are left behind, and the next collection does the rest."""
    await layers(body)
    await body.snapshots.prepare("left", "one")
    await body.close()
    code = run_process(body.name, body.directory, "collect", "two", "1", failpoints=f"bundle.{point}={terms}")
    assert code == -signal.SIGKILL
    body.reopen()
    left = await names(body)
    assert {"base", "two"} <= left <= {"base", "one", "two", "three", "left"}
    assert (len(left) == 5) == (point == "gc.chosen" and terms == "kill")
    assert len(body.places()) == len(left)
    assert replay(told(body)) == await recorded(body)
    assert await Collections(collector_of(body.database, body.snapshots), 2).run(["two"]) == left - {"base", "two"}
    with shown(await body.snapshots.look("two"), tmp_path / "m") as point_of_two:
        assert tree(point_of_two) == {"a": "1", "c": "1"}
    assert replay(told(body)) == await recorded(body)
