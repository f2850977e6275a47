"""What the metadata store promises to those who watch it (`hythe_metadata.watch`), on every body."""

from __future__ import annotations

import asyncio

import pytest

from hythe.errors import OutOfRange
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe_metadata import leases, namespaces
from hythe_metadata.records import RecordStore
from hythe_metadata.watch import Changes, ChangesWish, Watch


async def make(store: RecordStore, name: str) -> int:
    """Make a lease and return its revision."""
    made = await store.change(leases.create(Origin("default", "admin", new_id()), leases.LeaseWish(name)))
    return made.revision


async def test_watcher_sees_every_change_once_and_in_order(record_store: RecordStore) -> None:
    """Whoever watches while 200 changes are made at once sees each of their revisions once, in order, none left out."""
    watch = Watch(record_store)
    begun = await watch.changes(ChangesWish())
    made = [asyncio.create_task(make(record_store, f"l{number}")) for number in range(200)]
    seen: list[int] = []
    after = begun.revision
    while len(seen) < 200:
        page = await watch.changes(ChangesWish(after, begun.era, 7, 1.5, ("lease",)))
        assert page.changes, "nothing came within 1.5 s"
        seen += [change.revision for change in page.changes]
        after = page.revision
    assert seen == sorted(await asyncio.gather(*made)) == sorted(set(seen))


async def test_watcher_waits_for_a_change(record_store: RecordStore) -> None:
    """A change wakes those who wait for it at once; who waits in vain is told how far the store is."""
    watch = Watch(record_store)
    revision = await make(record_store, "l1")
    waiting = asyncio.create_task(watch.changes(ChangesWish(revision, wait_s=60)))
    await asyncio.sleep(0)
    made = await make(record_store, "l2")
    assert [change.revision for change in (await asyncio.wait_for(waiting, 5)).changes] == [made]
    assert await watch.changes(ChangesWish(made, wait_s=0.01)) == Changes((), made, record_store.era)


async def test_what_is_not_asked_for_is_passed_over(record_store: RecordStore) -> None:
    """Changes of other kinds don't show, yet the next question goes on beyond them."""
    watch = Watch(record_store)
    last = [await make(record_store, f"l{number}") for number in range(20)][-1]
    page = await watch.changes(ChangesWish(0, limit=3, kinds=("namespace",)))
    assert [change.key.kind for change in page.changes] == ["namespace"]
    assert (await watch.changes(ChangesWish(page.revision, limit=3, kinds=("namespace",)))).changes == ()
    waiting = await watch.changes(ChangesWish(page.revision, limit=3, wait_s=0.05, kinds=("namespace",)))
    assert waiting == Changes((), last, record_store.era)


async def test_deleted_record_shows_as_deleted(record_store: RecordStore) -> None:
    """Whoever keeps a copy learns what to drop."""
    watch = Watch(record_store)
    after = await make(record_store, "l1")
    await record_store.change(leases.remove(Origin("default"), "l1"))
    [change] = (await watch.changes(ChangesWish(after))).changes
    assert (change.key.name, change.deleted) == ("l1", True)


async def test_watcher_behind_the_log_is_told_to_begin_again(record_store: RecordStore) -> None:
    """Whoever was away for too long never gets a list with a hole: it is told how far back the log goes."""
    watch = Watch(record_store)
    after = await make(record_store, "l")
    for number in range(1150):
        last = await make(record_store, f"l{number}")
    with pytest.raises(OutOfRange) as caught:
        await watch.changes(ChangesWish(after))
    oldest = int(caught.value.details["oldest"])
    assert after < oldest < last
    assert caught.value.details["newest"] == str(last)
    assert (await watch.changes(ChangesWish(oldest, limit=1))).changes[0].revision == oldest + 1


async def test_watcher_of_a_restored_store_is_told_to_begin_again(record_store: RecordStore) -> None:
    """A store that went back, or has another era, doesn't let its watchers wait for revisions that mean something else."""
    watch = Watch(record_store)
    last = await make(record_store, "l1")
    with pytest.raises(OutOfRange, match="revision 1000"):
        await watch.changes(ChangesWish(1000))
    with pytest.raises(OutOfRange) as caught:
        await watch.changes(ChangesWish(last, era=record_store.era + 1))
    assert (caught.value.details["newest"], caught.value.details["era"]) == (str(last), str(record_store.era))


async def test_change_of_several_records_is_never_cut(record_store: RecordStore) -> None:
    """What was changed together is told together, however small the page."""
    watch = Watch(record_store)
    await make(record_store, "l1")
    page = await watch.changes(ChangesWish(0, limit=1))
    assert sorted(change.key.kind for change in page.changes) == ["lease", "namespace"]
    assert await record_store.read(namespaces.get("default"))
