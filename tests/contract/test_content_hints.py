"""What the metadata store promises of content (`hythe_metadata.contents`), on every body."""

from __future__ import annotations

import sys

import pytest

from hythe.errors import InvalidArgument
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe_metadata import contents, generations, leases
from hythe_metadata.contents import ContentHint, Held, Reference, Told
from hythe_metadata.lease_records import Resource
from hythe_metadata.records import Edge, Key, RecordStore

MANIFEST, CONFIG, LAYER = ("sha256:" + letter * 64 for letter in "abc")
LABELS = {"containerd.io/gc.ref.content.config": CONFIG, "containerd.io/gc.ref.content.l.0": LAYER}
EDGES = {Edge("content", name, label) for label, name in LABELS.items()}
KEY = Key("content", "default", MANIFEST)


def asks(namespace: str = "default") -> Origin:
    """Return who asks."""
    return Origin(namespace, "distribution", new_id())


async def refer(store: RecordStore, lease: str = "pull") -> contents.Reached:
    """Refer to a manifest that is about to be brought."""
    references = [Reference(MANIFEST, LABELS), Reference(CONFIG)]
    return await store.change(contents.refer(asks(), lease, 60, references))


async def hint(store: RecordStore, key: Key = KEY) -> ContentHint | None:
    """Return what is known of a blob."""

    stored = await store.read(lambda view: view.get(key))
    return contents.read(stored) if stored else None


async def edges(store: RecordStore, key: Key = KEY) -> set[Edge]:
    """Return what a blob refers to."""
    return await store.read(lambda view: {edge for source, edge in view.edges() if source == key})


async def revision(store: RecordStore) -> int:
    """Return the revision of the store."""
    return await store.read(lambda view: view.moment.revision - 1)


async def test_references_are_there_before_the_blobs(record_store: RecordStore) -> None:
    """Before anything is fetched a lease keeps it, and what its labels will refer to is known."""
    reached = await refer(record_store)
    lease = await record_store.read(leases.get("default", "pull"))
    assert (lease.duration_s, lease.resources) == (60, (Resource("content", MANIFEST), Resource("content", CONFIG)))
    assert await edges(record_store) == EDGES
    assert reached.revision == await revision(record_store)


async def test_referring_again_renews_the_lease_and_adds_to_it(record_store: RecordStore) -> None:
    """A second call for the same pull gives its lease a new life, and takes nothing away."""
    await refer(record_store)
    before = await record_store.read(leases.get("default", "pull"))
    await refer(record_store)
    await record_store.change(contents.refer(asks(), "pull", 5, [Reference(LAYER)]))
    after = await record_store.read(leases.get("default", "pull"))
    assert after.renewed != before.renewed
    assert after.duration_s == 60
    assert after.resources == (*before.resources, Resource("content", LAYER))
    assert await edges(record_store) == EDGES


async def test_answer_says_how_far_the_store_is(record_store: RecordStore) -> None:
    """Owners learn from each answer which collection was the last."""
    assert (await refer(record_store)).generation == 0
    assert await record_store.change(generations.begin) == 1
    assert await record_store.change(generations.begin) == 2
    assert (await refer(record_store)).generation == 2


@pytest.mark.parametrize("reference", [Reference("latest"), Reference(MANIFEST, {"k": "v" * 4096})])
async def test_reference_that_breaks_a_rule_makes_nothing(record_store: RecordStore, reference: Reference) -> None:
    """One bad digest or label, and neither lease nor record is made."""
    with pytest.raises(InvalidArgument):
        await record_store.change(contents.refer(asks(), "pull", 60, [Reference(CONFIG), reference]))
    assert await revision(record_store) == 0


async def test_owner_tells_what_it_holds(record_store: RecordStore) -> None:
    """What an owner says of size, labels and who has it is known, and up to where it was told."""
    told = [Told(7, "default", MANIFEST, 500, LABELS), Told(9, "other", LAYER, 9000)]
    await record_store.change(contents.learn("h1", told, 9))
    assert await hint(record_store) == ContentHint("default", MANIFEST, 500, {"h1": Held(7, LABELS)})
    assert await edges(record_store) == EDGES
    assert await record_store.read(contents.known("h1")) == 9
    assert await record_store.read(contents.known("h2")) == 0


async def test_older_word_never_overwrites_a_newer_one(record_store: RecordStore) -> None:
    """Messages that overtake each other can't bring back labels, or a holder, of before."""
    await record_store.change(contents.learn("h1", [Told(7, "default", MANIFEST, 500, LABELS)], 7))
    await record_store.change(contents.learn("h1", [Told(6, "default", MANIFEST, 1)], 6))
    await record_store.change(contents.learn("h1", [Told(5, "default", MANIFEST, gone=True)], 5))
    assert await hint(record_store) == ContentHint("default", MANIFEST, 500, {"h1": Held(7, LABELS)})
    assert await record_store.read(contents.known("h1")) == 7


async def test_what_is_told_twice_changes_nothing(record_store: RecordStore) -> None:
    """Hearing the same again makes no revision."""
    told = [Told(7, "default", MANIFEST, 500, LABELS)]
    await record_store.change(contents.learn("h1", told, 7))
    before = await revision(record_store)
    await record_store.change(contents.learn("h1", told, 7))
    assert await revision(record_store) == before


async def test_references_of_all_holders_count(record_store: RecordStore) -> None:
    """As long as one host's copy refers to something, it is referred to."""
    await record_store.change(contents.learn("h1", [Told(1, "default", MANIFEST, 500, LABELS)], 1))
    await record_store.change(contents.learn("h2", [Told(4, "default", MANIFEST, 500, {})], 4))
    assert await edges(record_store) == EDGES
    await record_store.change(contents.learn("h1", [Told(2, "default", MANIFEST, gone=True)], 2))
    assert await edges(record_store) == set()
    found = await hint(record_store)
    assert found is not None
    assert found.holders == {"h2": Held(4)}


async def test_labels_of_a_pull_hold_until_owner_has_told_and_lease_has_ended(record_store: RecordStore) -> None:
    """What a pull said of its blobs isn't lost when another host, which has other labels, tells first."""
    await refer(record_store)
    await record_store.change(contents.learn("h2", [Told(1, "default", MANIFEST, 500, {})], 1))
    assert await edges(record_store) == EDGES
    await record_store.change(leases.remove(asks(), "pull"))
    assert await edges(record_store) == EDGES
    await record_store.change(contents.learn("h2", [Told(2, "default", MANIFEST, 500, {})], 2))
    assert await edges(record_store) == set()


async def test_sweep_takes_a_holder_but_not_one_that_came_back(record_store: RecordStore) -> None:
    """A blob that was brought again while a sweep ran is still known."""
    told = [Told(1, "default", MANIFEST, 500, LABELS), Told(2, "default", LAYER, 9000)]
    await record_store.change(contents.learn("h1", told, 2))
    before = await record_store.read(contents.known("h1"))
    await record_store.change(contents.learn("h1", [Told(3, "default", LAYER, 9000)], 3))
    layer = Key("content", "default", LAYER)
    await record_store.change(contents.unhold("h1", [KEY, layer], before))
    assert (await hint(record_store), await hint(record_store, layer)) == (
        ContentHint("default", MANIFEST, 500),
        ContentHint("default", LAYER, 9000, {"h1": Held(3)}),
    )


async def test_record_goes_only_when_nobody_holds_or_leases_it(record_store: RecordStore) -> None:
    """A collection forgets what nobody has; not what is held, leased, or was referred to since it looked."""
    layer, config = (Key("content", "default", digest) for digest in (LAYER, CONFIG))
    await record_store.change(contents.learn("h1", [Told(1, "default", LAYER, 9000)], 1))
    await refer(record_store)
    seen = await revision(record_store)
    assert await record_store.change(contents.forget([KEY, layer, config], seen)) == 0
    await record_store.change(leases.remove(asks(), "pull"))
    await record_store.change(contents.refer(asks(), "late", 60, [Reference(CONFIG, {"a": "1"})]))
    await record_store.change(leases.remove(asks(), "late"))
    assert await record_store.change(contents.forget([KEY, layer, config], seen)) == 1
    assert await hint(record_store) is None
    assert await hint(record_store, layer) is not None
    assert await hint(record_store, config) is not None


async def test_owner_that_begins_anew_is_believed(record_store: RecordStore) -> None:
    """An owner whose numbers went back, for it was restored, is listed whole; what isn't in the list is not there."""
    told = [Told(50, "default", MANIFEST, 500, LABELS), Told(60, "default", LAYER, 9000)]
    await record_store.change(contents.learn("h1", told, 60))
    await record_store.change(contents.learn("h1", [Told(3, "default", MANIFEST, 500)], 3, anew=True))
    assert await record_store.read(contents.known("h1")) == 3
    held = await record_store.read(contents.held_by("h1", sys.maxsize))
    assert set(held) == {KEY, Key("content", "default", LAYER)}
    await record_store.change(contents.unhold("h1", [Key("content", "default", LAYER)], sys.maxsize))
    assert await record_store.read(contents.held_by("h1", sys.maxsize)) == [KEY]
    assert await edges(record_store) == set()


async def test_labels_of_many_holders_are_kept_once(record_store: RecordStore) -> None:
    """Hundreds of hosts with the same image don't make its record grow by its labels each."""
    labels = {f"containerd.io/gc.ref.content.l.{number}": LAYER for number in range(200)}
    for number in range(300):
        await record_store.change(contents.learn(f"h{number}", [Told(1, "default", MANIFEST, 500, labels)], 1))
    stored = await record_store.read(lambda view: view.get(KEY))
    assert stored is not None
    assert len(stored.body) < 64 << 10
