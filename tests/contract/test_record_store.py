"""What every body of the metadata store promises (`hythe_metadata.records.RecordStore`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from hythe.clock import now_ns
from hythe.errors import AlreadyExists, Conflict, NotFound, OutOfRange, ResourceExhausted, Unavailable
from hythe.ports.metadata import Origin
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.changes import Happening
from hythe_metadata.records import Change, Edge, Key, RecordStore, Transaction, View, Work
from tests.fixtures.record_stores import DURABLE, OpenStore
from tests.fixtures.waiting import eventually_async

ORIGIN = Origin("default", "test", "r1", "t" * 32)
KEPT_CHANGES = 10


@pytest.fixture
def store(record_store: RecordStore) -> RecordStore:
    """An empty store."""
    return record_store


def thing(name: str, namespace: str = "default", kind: str = "thing") -> Key:
    """Return a key."""
    return Key(kind, namespace, name)


def put(*keys: Key, body: str = "{}") -> Work[None]:
    """Return work that writes records."""

    def work(transaction: Transaction) -> None:
        for key in keys:
            transaction.put(key, body)

    return work


def happened(name: str) -> Happening:
    """Return an event."""
    return Happening("thing", name, "created", "/things/create", {"name": name})


async def test_record_is_put_got_and_deleted(store: RecordStore) -> None:
    """A record is there with body, bulk and revision from its put to its deletion."""
    key = thing("a")

    def write(transaction: Transaction) -> int:
        transaction.put(key, '{"x":"ä"}', bulk="much")
        return transaction.moment.revision

    revision = await store.change(write)
    found = await store.read(lambda view: view.get(key))
    assert found is not None
    assert (found.key, found.body, found.bulk, found.revision) == (key, '{"x":"ä"}', "much", revision)
    await store.change(lambda transaction: transaction.delete(key))
    assert await store.read(lambda view: view.get(key)) is None


async def test_kinds_and_namespaces_are_apart(store: RecordStore) -> None:
    """One name in another kind or namespace is another record."""
    keys = [thing("a"), thing("a", "other"), thing("a", "default", "sort"), thing("a", "")]
    for number, key in enumerate(keys):
        await store.change(put(key, body=str(number)))
    for number, key in enumerate(keys):
        found = await store.read(lambda view, key=key: view.get(key))  # type: ignore[misc]
        assert found is not None and found.body == str(number)


async def test_scan_yields_in_order_from_where_it_is_told(store: RecordStore) -> None:
    """Lists come by namespace and name, begin after any place, and keep to a prefix."""
    keys = [thing(name, space) for space in ("b", "a") for name in ("n2", "n10", "m", "ü", "N", "n2.x")]
    await store.change(put(*keys, thing("n2", "a", "sort")))

    def names(space: str | None, after: str = "", prefix: str = "") -> Callable[[View], list[tuple[str, str]]]:
        return lambda view: [(s.key.namespace, s.key.name) for s in view.scan("thing", space, after, prefix)]

    ordered = sorted(["n2", "n10", "m", "ü", "N", "n2.x"])
    assert await store.read(names("a")) == [("a", name) for name in ordered]
    assert await store.read(names(None)) == [(space, name) for space in ("a", "b") for name in ordered]
    assert await store.read(names("a", after="n10")) == [("a", name) for name in ordered if name > "n10"]
    assert await store.read(names(None, after="a n2.x")) == [("a", "ü"), *(("b", name) for name in ordered)]
    assert await store.read(names("b", prefix="n2")) == [("b", "n2"), ("b", "n2.x")]
    assert await store.read(names("b", after="n2", prefix="n2")) == [("b", "n2.x")]
    assert await store.read(names(None, prefix="n1")) == [("a", "n10"), ("b", "n10")]
    assert await store.read(names("nobody")) == []


async def test_long_list_is_whole(store: RecordStore) -> None:
    """However many records there are, a scan yields each once, also while the same transaction changes them."""
    keys = [thing(f"{number:05}") for number in range(1700)]
    await store.change(put(*keys))

    def rewrite(transaction: Transaction) -> list[Key]:
        seen = []
        for stored in transaction.scan("thing", "default"):
            seen.append(stored.key)
            transaction.put(stored.key, "[1]")
        return seen

    assert await store.change(rewrite) == keys
    bodies = await store.read(lambda view: {stored.body for stored in view.scan("thing")})
    assert bodies == {"[1]"}


async def test_scan_while_others_write_yields_what_stays_once(store: RecordStore) -> None:
    """While thirty-two write and delete around them, records that nobody touches are in every list once, in order."""
    stays = [f"{number:04}" for number in range(0, 1200, 2)]
    await store.change(put(*(thing(name) for name in stays)))
    reading = asyncio.Event()

    async def write(number: int) -> None:
        key = thing(f"{2 * number + 1:04}")
        while not reading.is_set():
            await store.change(put(key))
            await store.change(lambda transaction: transaction.delete(key))

    writers = [asyncio.create_task(write(number)) for number in range(32)]
    try:
        for _ in range(10):
            names = await store.read(lambda view: [found.key.name for found in view.scan("thing", "default")])
            assert names == sorted(set(names))
            assert [name for name in names if int(name) % 2 == 0] == stays
    finally:
        reading.set()
        await asyncio.gather(*writers)


async def test_unique_value_belongs_to_one_record(store: RecordStore) -> None:
    """A value is taken until its record goes or gives it up; in another namespace it is free, unless it is for all."""

    def named(key: Key, name: str, everywhere: str = "") -> Work[None]:
        return lambda transaction: transaction.put(
            key, "{}", unique={"name": name}, everywhere={"id": everywhere} if everywhere else None
        )

    await store.change(named(thing("1"), "web", "x"))
    with pytest.raises(AlreadyExists) as taken:
        await store.change(named(thing("2"), "web"))
    assert taken.value.details == {"kind": "thing", "id": "1"}
    await store.change(named(thing("3", "other"), "web"))
    with pytest.raises(AlreadyExists):
        await store.change(named(thing("4", "other"), "db", "x"))
    assert await store.read(lambda view: view.named("name", "default", "web")) == thing("1")
    assert await store.read(lambda view: view.named("name", "other", "web")) == thing("3", "other")
    assert await store.read(lambda view: view.named("id", "", "x")) == thing("1")
    await store.change(named(thing("1"), "renamed"))
    assert await store.read(lambda view: view.named("name", "default", "web")) is None
    assert await store.read(lambda view: view.named("id", "", "x")) is None
    await store.change(named(thing("2"), "web"))
    await store.change(lambda transaction: transaction.delete(thing("2")))
    await store.change(named(thing("5"), "web"))
    assert await store.read(lambda view: view.named("name", "default", "web")) == thing("5")


async def test_unique_values_move_within_one_transaction(store: RecordStore) -> None:
    """Two records may swap their names in one transaction that first takes one away."""

    def begin(transaction: Transaction) -> None:
        transaction.put(thing("1"), "{}", unique={"name": "a"})
        transaction.put(thing("2"), "{}", unique={"name": "b"})

    def swap(transaction: Transaction) -> Key | None:
        transaction.put(thing("1"), "{}")
        transaction.put(thing("2"), "{}", unique={"name": "a"})
        transaction.put(thing("1"), "{}", unique={"name": "b"})
        return transaction.named("name", "default", "a")

    await store.change(begin)
    assert await store.change(swap) == thing("2")
    assert await store.read(lambda view: view.named("name", "default", "b")) == thing("1")


async def test_references_are_those_of_the_last_put(store: RecordStore) -> None:
    """What a record refers to is replaced by each put and goes with it."""
    one, other = Edge("content", "sha256:1", "target"), Edge("snapshot/overlayfs", "k", "label")

    def write(*edges: Edge) -> Work[None]:
        return lambda transaction: transaction.put(thing("a"), "{}", edges=edges)

    async def edges() -> list[tuple[Key, Edge]]:
        return sorted(await store.read(lambda view: list(view.edges())))

    await store.change(write(one, other, one))
    assert await edges() == [(thing("a"), one), (thing("a"), other)]
    await store.change(write(other))
    assert await edges() == [(thing("a"), other)]
    await store.change(write())
    assert await edges() == []
    await store.change(write(one))
    await store.change(lambda transaction: transaction.delete(thing("a")))
    assert await edges() == []


async def test_transaction_sees_its_own_changes(store: RecordStore) -> None:
    """Whatever a transaction asks, its own writes are in the answer."""
    await store.change(put(thing("old"), thing("gone")))

    def work(transaction: Transaction) -> tuple[object, ...]:
        transaction.put(thing("new"), "[2]", unique={"name": "n"}, edges=[Edge("content", "d", "v")])
        transaction.put(thing("old"), "[1]")
        transaction.delete(thing("gone"))
        transaction.delete(thing("never"))
        stored = [(found.key.name, found.body) for found in transaction.scan("thing", "default")]
        named = transaction.named("name", "default", "n")
        return stored, named, list(transaction.edges()), dict(transaction.occupants("default"))

    stored, named, edges, occupants = await store.change(work)
    assert stored == [("new", "[2]"), ("old", "[1]")]
    assert named == thing("new")
    assert edges == [(thing("new"), Edge("content", "d", "v"))]
    assert occupants == {"thing": 2}


async def test_work_that_raises_has_changed_nothing(store: RecordStore) -> None:
    """A refusal in the middle leaves records, references, names, log and events as they were."""
    await store.change(put(thing("a"), body="[0]"))
    before = await store.read(lambda view: view.moment.revision)

    def work(transaction: Transaction) -> None:
        transaction.put(thing("a"), "[1]", unique={"name": "n"}, edges=[Edge("content", "d", "v")])
        transaction.put(thing("b"), "{}")
        transaction.emit(ORIGIN, happened("a"))
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.change(work)
    found = await store.read(lambda view: view.get(thing("a")))
    assert found is not None and found.body == "[0]"
    assert await store.read(lambda view: view.get(thing("b"))) is None
    assert await store.read(lambda view: view.named("name", "default", "n")) is None
    assert await store.read(lambda view: list(view.edges())) == []
    assert await store.read(lambda view: view.moment.revision) == before
    assert await store.read(lambda view: dict(view.occupants("default"))) == {"thing": 1}
    assert await store.outgoing(0, 10) == []


async def test_revisions_rise_by_one_with_each_change_and_with_nothing_else(store: RecordStore) -> None:
    """The revision tells how often the store was changed; questions and repetitions don't count."""
    first = await store.read(lambda view: view.moment.revision)
    for number in range(3):
        assert await store.change(
            lambda transaction: (put(thing("a"))(transaction), transaction.moment.revision)[1]
        ) == (first + number)
    await store.change(lambda transaction: transaction.get(thing("a")))
    await store.change(lambda transaction: transaction.delete(thing("never")))
    assert await store.read(lambda view: view.moment.revision) == first + 3


async def test_occupants_count_all_but_internal_kinds(store: RecordStore) -> None:
    """Whether a namespace is empty is known at once, whatever was written over and deleted."""
    keys = [thing("a"), thing("b"), thing("c", kind="sort"), thing("d", kind="request"), thing("e", "other")]
    await store.change(put(*keys))
    await store.change(put(*keys))
    assert await store.read(lambda view: dict(view.occupants("default"))) == {"thing": 2, "sort": 1}
    for key in keys:
        await store.change(lambda transaction, key=key: transaction.delete(key))  # type: ignore[misc]
    assert await store.read(lambda view: dict(view.occupants("default"))) == {}


async def test_log_tells_every_change_in_order(store: RecordStore) -> None:
    """A reader that follows the log from a revision learns of each record that was put or deleted, once, in order."""
    start = await store.read(lambda view: view.moment.revision) - 1

    def both(transaction: Transaction) -> None:
        transaction.put(thing("b"), "{}")
        transaction.put(thing("c"), "{}")
        transaction.put(thing("q", kind="request"), "{}")

    await store.change(put(thing("a")))
    await store.change(both)
    await store.change(lambda transaction: transaction.delete(thing("a")))
    found = await store.read(lambda view: view.changes(start, 100))
    told = [(change.revision - start, change.key.name, change.deleted) for change in found]
    assert told[0] == (1, "a", False)
    assert sorted(told[1:3]) == [(2, "b", False), (2, "c", False)]
    assert told[3:] == [(3, "a", True)]
    assert await store.read(lambda view: view.changes(start + 3, 100)) == []
    part = await store.read(lambda view: view.changes(start, 2))
    assert [change.revision - start for change in part] == [1, 2, 2], "changes of one revision come together"


async def test_log_that_was_cut_says_so(open_store: OpenStore) -> None:
    """A reader that comes too late for the log is told, and never takes a part for the whole."""
    store = await asyncio.to_thread(open_store, KEPT_CHANGES)
    for number in range(400):
        await store.change(put(thing(str(number))))
    if not isinstance(store, MemoryStore):
        await store.close()
        store = await asyncio.to_thread(open_store, KEPT_CHANGES)
    with pytest.raises(OutOfRange) as late:
        await store.read(lambda view: view.changes(0, 100))
    oldest = int(late.value.details["oldest"])
    found = await store.read(lambda view: view.changes(oldest, 1000))
    assert [change.revision for change in found] == list(range(oldest + 1, found[-1].revision + 1))
    assert len(found) >= KEPT_CHANGES
    await store.close()


async def test_watcher_misses_nothing_of_many_writers(store: RecordStore) -> None:
    """Following the log while others write brings every revision once."""
    woken = asyncio.Event()
    store.on_change(woken.set)
    after = await store.read(lambda view: view.moment.revision) - 1
    seen: list[Change] = []
    writers = [asyncio.create_task(store.change(put(thing(str(number))))) for number in range(8)]
    while len(seen) < 8:
        woken.clear()
        found = await store.read(lambda view, after=after: view.changes(after, 3))  # type: ignore[misc]
        seen += found
        if found:
            after = found[-1].revision
        else:
            await asyncio.wait_for(woken.wait(), 10)
    await asyncio.gather(*writers)
    assert sorted(change.key.name for change in seen) == [str(number) for number in range(8)]
    assert [change.revision for change in seen] == sorted({change.revision for change in seen})


async def test_events_are_stored_with_the_change_and_numbered(store: RecordStore) -> None:
    """Events of each object count from one without gaps, and say who asked."""

    def tell(name: str) -> Work[None]:
        return lambda transaction: transaction.emit(ORIGIN, happened(name))

    for name in ("a", "b", "a"):
        await store.change(tell(name))
    events = await store.outgoing(0, 10)
    assert [(event.object_id, event.number) for event in events] == [("a", 1), ("b", 1), ("a", 2)]
    first = events[0]
    assert (first.namespace, first.noun, first.past, first.topic) == ("default", "thing", "created", "/things/create")
    assert (first.caller, first.request_id, first.trace_id) == ("test", "r1", "t" * 32)
    assert first.attributes == {"name": "a"}
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert await store.outgoing(events[0].sequence, 1) == [events[1]]
    store.sent([events[0].sequence, events[2].sequence])
    await store.change(put(thing("x")))

    async def left() -> bool:
        return [event.object_id for event in await store.outgoing(0, 10)] == ["b"]

    await eventually_async(left, what="sent events are forgotten")
    await store.change(tell("a"))
    assert (await store.outgoing(events[2].sequence, 10))[-1].number == 3


async def test_record_that_is_too_large_is_refused(store: RecordStore) -> None:
    """A value beyond the limit is refused with its size, and whatever else was in the transaction with it."""

    def work(transaction: Transaction) -> None:
        transaction.put(thing("small"), "{}")
        transaction.put(thing("large"), "{}", bulk="x" * (1 << 20))

    with pytest.raises(ResourceExhausted) as refused:
        await store.change(work)
    assert refused.value.details["size_bytes"] == str((1 << 20) + 2)
    assert await store.read(lambda view: view.get(thing("small"))) is None


async def test_compare_and_set_never_lies(store: RecordStore) -> None:
    """Of many who replace what they read, exactly those succeed that read the newest."""
    key = thing("counter")
    await store.change(put(key, body="0"))

    def replace(read_revision: int, value: int) -> Work[None]:
        def work(transaction: Transaction) -> None:
            found = transaction.get(key)
            assert found is not None
            if found.revision != read_revision:
                raise Conflict("somebody was faster")
            transaction.put(key, str(value))

        return work

    async def count(times: int) -> None:
        done = 0
        while done < times:
            found = await store.read(lambda view: view.get(key))
            assert found is not None
            try:
                await store.change(replace(found.revision, int(found.body) + 1))
                done += 1
            except Conflict:
                pass

    await asyncio.gather(*(count(5) for _ in range(16)))
    found = await store.read(lambda view: view.get(key))
    assert found is not None and found.body == "80"


async def test_increments_within_transactions_are_never_lost(store: RecordStore) -> None:
    """What a transaction reads is what it changes, however many come at once."""

    def increment(transaction: Transaction) -> int:
        found = transaction.get(thing("n"))
        value = json.loads(found.body) + 1 if found else 1
        transaction.put(thing("n"), json.dumps(value))
        return int(value)

    values = await asyncio.gather(*(store.change(increment) for _ in range(100)))
    assert sorted(values) == list(range(1, 101))


async def test_error_of_one_takes_no_other_down(store: RecordStore) -> None:
    """Of many changes that come together only those that raise fail."""

    def fail(transaction: Transaction) -> None:
        transaction.put(thing("bad"), "{}")
        raise NotFound("no")

    works = [put(thing(str(number))) if number % 3 else fail for number in range(30)]
    outcomes = await asyncio.gather(*(store.change(work) for work in works), return_exceptions=True)
    assert [isinstance(outcome, NotFound) for outcome in outcomes] == [number % 3 == 0 for number in range(30)]
    stored = await store.read(lambda view: [found.key.name for found in view.scan("thing")])
    assert stored == sorted(str(number) for number in range(30) if number % 3)


async def test_change_is_announced_and_a_question_is_not(store: RecordStore) -> None:
    """Who waits for changes is woken by each, and by nothing else."""
    woken: list[int] = []
    store.on_change(lambda: woken.append(1))
    await store.change(lambda transaction: transaction.get(thing("a")))
    assert woken == []
    await store.change(put(thing("a")))

    async def announced() -> bool:
        return len(woken) >= 1

    await eventually_async(announced, what="the change is announced")


async def test_closed_store_refuses(store: RecordStore) -> None:
    """After its end a store says that it is closed, whatever is asked."""
    await store.close()
    with pytest.raises(Unavailable):
        await store.change(put(thing("a")))
    with pytest.raises(Unavailable):
        await store.read(lambda view: view.get(thing("a")))


@pytest.mark.parametrize("open_store", DURABLE, indirect=True)
async def test_everything_survives_a_restart(open_store: OpenStore) -> None:
    """Records, names, references, log, counts, events, numbers, id and era are what they were."""
    store = await asyncio.to_thread(open_store)

    def work(transaction: Transaction) -> None:
        transaction.put(thing("a"), "[1]", bulk="b", unique={"name": "n"}, edges=[Edge("content", "d", "v")])
        transaction.emit(ORIGIN, happened("a"))

    await store.change(work)
    start = await store.read(lambda view: view.moment.revision) - 2
    identity = store.store_id, store.era
    await store.close()
    store = await asyncio.to_thread(open_store)
    assert (store.store_id, store.era) == identity
    found = await store.read(lambda view: view.get(thing("a")))
    assert found is not None and (found.body, found.bulk, found.revision) == ("[1]", "b", start + 1)
    assert await store.read(lambda view: view.named("name", "default", "n")) == thing("a")
    assert await store.read(lambda view: list(view.edges())) == [(thing("a"), Edge("content", "d", "v"))]
    assert await store.read(lambda view: view.changes(start, 10)) == [Change(start + 1, thing("a"))]
    assert await store.read(lambda view: dict(view.occupants("default"))) == {"thing": 1}
    assert [event.number for event in await store.outgoing(0, 10)] == [1]
    await store.change(work)
    assert [event.number for event in await store.outgoing(0, 10)] == [1, 2]
    await store.close()


@pytest.mark.parametrize("open_store", DURABLE, indirect=True)
async def test_record_to_be_kept_for_a_while_is_forgotten_after_it(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be kept for a time goes silently some time after it, with its names and references, and not before."""
    store = await asyncio.to_thread(open_store)

    def work(transaction: Transaction) -> None:
        kept = {"unique": {"name": "n"}, "edges": [Edge("content", "d", "v")]}
        transaction.put(thing("short"), "{}", keep_s=0.001, **kept)  # type: ignore[arg-type]
        transaction.put(thing("long"), "{}", keep_s=3600)
        transaction.put(thing("ever"), "{}")

    await store.change(work)
    ended_ns = now_ns() + 2_000_000
    await eventually_async(lambda: _later(ended_ns), what="a while has passed")
    await store.close()
    store = await asyncio.to_thread(open_store)

    async def forgotten() -> bool:
        return await store.read(lambda view: view.get(thing("short"))) is None

    await eventually_async(forgotten, what="it is forgotten")
    assert await store.read(lambda view: view.named("name", "default", "n")) is None
    assert await store.read(lambda view: list(view.edges())) == []
    assert await store.read(lambda view: dict(view.occupants("default"))) == {"thing": 2}
    await store.close()


async def _later(ns: int) -> bool:
    return now_ns() > ns
