"""What the metadata store promises of leases (`hythe_metadata.leases`), on every body."""

from __future__ import annotations

import pytest

from hythe.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from hythe.identifiers import check_id, new_id
from hythe.ports.metadata import Origin
from hythe_metadata import leases
from hythe_metadata.lease_clock import GC_EXPIRE, LeaseClock, ends_at_ns
from hythe_metadata.lease_records import FLAT, LeaseRecord, Resource, expired, left_s
from hythe_metadata.leases import LeaseWish
from hythe_metadata.records import Edge, Key, RecordStore
from tests.fakes.boottime import Boottime

DIGEST = "sha256:" + "a" * 64
BLOB = Resource("content", DIGEST)
SNAPSHOT = Resource("snapshot/overlayfs", "chain")


@pytest.fixture
def boottime() -> Boottime:
    """The clock by which leases end."""
    return Boottime()


@pytest.fixture
def clock(boottime: Boottime) -> LeaseClock:
    """What a metadata process has seen of leases."""
    return LeaseClock(boottime)


def asks(namespace: str = "default", request_id: str = "") -> Origin:
    """Return who asks, by default with a fresh request id."""
    return Origin(namespace, "admin", request_id or new_id())


async def make(store: RecordStore, lease_id: str, *resources: Resource, duration_s: float | None = None) -> LeaseRecord:
    """Make a lease."""
    return await store.change(leases.create(asks(), LeaseWish(lease_id, {}, duration_s, resources)))


async def edges(store: RecordStore) -> set[tuple[Key, Edge]]:
    """Return what refers to what."""
    return await store.read(lambda view: set(view.edges()))


async def test_lease_without_an_id_gets_a_random_one_once_per_request(record_store: RecordStore) -> None:
    """Repeating a request for a new lease doesn't make a second one that nobody would ever end."""
    origin = asks()
    made = await record_store.change(leases.create(origin, LeaseWish(resources=(BLOB, BLOB))))
    assert check_id(made.id)
    assert made.resources == (BLOB,)
    assert await record_store.change(leases.create(origin, LeaseWish(resources=(BLOB, BLOB)))) == made
    assert (await record_store.read(leases.list_all("default", "", 10))).records == (made,)
    with pytest.raises(Conflict):
        await record_store.change(leases.create(origin, LeaseWish()))


async def test_taken_lease_id_is_refused(record_store: RecordStore) -> None:
    """Nobody gets somebody else's lease by guessing its id."""
    await make(record_store, "l1")
    with pytest.raises(AlreadyExists):
        await make(record_store, "l1")
    other = await record_store.change(leases.create(asks("other"), LeaseWish("l1")))
    assert other.namespace == "other"


async def test_what_a_lease_keeps_are_references_of_the_graph(record_store: RecordStore) -> None:
    """Graph and mark see what a lease keeps, as long as it keeps it."""
    key = Key("lease", "default", "l1")
    await make(record_store, "l1", BLOB)
    assert await edges(record_store) == {(key, Edge("content", DIGEST, "resource"))}
    both = await record_store.change(leases.add(asks(), "l1", [SNAPSHOT, BLOB], LeaseClock()))
    assert both.resources == (BLOB, SNAPSHOT)
    assert len(await edges(record_store)) == 2
    again = await record_store.change(leases.add(asks(), "l1", [SNAPSHOT], LeaseClock()))
    assert again == both
    left = await record_store.change(leases.drop(asks(), "l1", [BLOB]))
    assert left.resources == (SNAPSHOT,)
    assert await record_store.change(leases.drop(asks(), "l1", [BLOB])) == left
    assert await record_store.change(leases.remove(asks(), "l1"))
    assert await edges(record_store) == set()


async def test_removing_a_lease_twice_is_fine(record_store: RecordStore) -> None:
    """Ending a lease that is gone does nothing and says so."""
    await make(record_store, "l1")
    assert await record_store.change(leases.remove(asks(), "l1"))
    assert not await record_store.change(leases.remove(asks(), "l1"))
    with pytest.raises(NotFound) as caught:
        await record_store.read(leases.get("default", "l1"))
    assert caught.value.details["kind"] == "lease"


@pytest.mark.parametrize("lease_id", ["-a", "a b", "a\n", "ä", "x" * 129, "/a"])
async def test_id_that_breaks_its_rule_is_refused(record_store: RecordStore, lease_id: str) -> None:
    """An id that a label or a file name couldn't carry is refused."""
    with pytest.raises(InvalidArgument):
        await make(record_store, lease_id)


@pytest.mark.parametrize(
    "resource",
    [
        Resource("container", "a"),
        Resource("content", "latest"),
        Resource("content", "sha256:abc"),
        Resource("snapshot", "a"),
        Resource("snapshot/", "a"),
        Resource("image", ""),
        Resource("image", "x" * 1025),
    ],
)
async def test_resource_that_nothing_can_be_is_refused(record_store: RecordStore, resource: Resource) -> None:
    """A lease never claims to keep what can't exist, so a misspelt digest shows at once."""
    await make(record_store, "l1")
    with pytest.raises(InvalidArgument):
        await make(record_store, "l2", resource)
    with pytest.raises(InvalidArgument):
        await record_store.change(leases.add(asks(), "l1", [resource], LeaseClock()))


async def test_flat_lease_says_so(record_store: RecordStore) -> None:
    """A lease with containerd's label for it keeps only what it names; taking the label away ends that."""
    await make(record_store, "l1", BLOB)
    flat = await record_store.change(leases.label(asks(), "l1", {FLAT: "true"}))
    assert flat.flat
    assert not (await record_store.change(leases.label(asks(), "l1", {FLAT: ""}))).flat


async def test_lease_ends_after_its_duration_unless_it_is_renewed(
    record_store: RecordStore, clock: LeaseClock, boottime: Boottime
) -> None:
    """A lease that is renewed lives; adding to it or labelling it is no renewal."""
    lease = await make(record_store, "l1", duration_s=60)
    assert left_s(lease, clock) == 60
    boottime.pass_s(50)
    lease = await record_store.change(leases.renew(asks(), "l1", clock))
    assert left_s(lease, clock) == 60
    boottime.pass_s(50)
    lease = await record_store.change(leases.add(asks(), "l1", [BLOB], clock))
    lease = await record_store.change(leases.label(asks(), "l1", {"a": "1"}))
    assert left_s(lease, clock) == 10
    boottime.pass_s(10)
    assert expired(lease, clock)


async def test_expired_lease_is_not_revived(record_store: RecordStore, clock: LeaseClock, boottime: Boottime) -> None:
    """Whoever comes too late is told, for what the lease kept may be gone."""
    lease = await make(record_store, "l1", duration_s=60)
    assert not expired(lease, clock)
    boottime.pass_s(60)
    with pytest.raises(NotFound, match="expired"):
        await record_store.change(leases.renew(asks(), "l1", clock))
    with pytest.raises(NotFound, match="expired"):
        await record_store.change(leases.add(asks(), "l1", [BLOB], clock))
    assert await record_store.change(leases.forget([lease])) == [lease]
    with pytest.raises(NotFound):
        await record_store.read(leases.get("default", "l1"))


async def test_lease_made_again_under_the_same_id_has_its_whole_life(
    record_store: RecordStore, clock: LeaseClock, boottime: Boottime
) -> None:
    """A new lease doesn't inherit the age of an old one of its id."""
    assert not expired(await make(record_store, "l1", duration_s=60), clock)
    boottime.pass_s(59)
    await record_store.change(leases.remove(asks(), "l1"))
    assert left_s(await make(record_store, "l1", duration_s=60), clock) == 60


async def test_lease_that_changed_since_it_was_seen_is_not_forgotten(record_store: RecordStore) -> None:
    """A collection that saw a lease expired doesn't take it when it was renewed meanwhile."""
    lease = await make(record_store, "l1", duration_s=60)
    await record_store.change(leases.renew(asks(), "l1", LeaseClock()))
    assert await record_store.change(leases.forget([lease])) == []
    assert (await record_store.read(leases.get("default", "l1"))).id == "l1"


async def test_lease_with_a_time_ends_then(record_store: RecordStore, clock: LeaseClock) -> None:
    """containerd's label with a time of the wall clock ends a lease, also one that has a duration."""
    lease = await record_store.change(
        leases.create(asks(), LeaseWish("l1", {GC_EXPIRE: "2026-11-23T20:15:00+01:00"}, duration_s=3600))
    )
    at_ns = ends_at_ns(lease.labels)
    assert at_ns is not None
    assert left_s(lease, clock, lambda: at_ns - 5_000_000_000) == 5
    assert expired(lease, clock, lambda: at_ns)
    assert left_s(await make(record_store, "l2"), clock) is None


@pytest.mark.parametrize(
    "text", ["tomorrow", "2026-11-23", "2026-11-23T20:15:00", "2026-13-01T00:00:00Z", "20261123T201500Z", "1800000000"]
)
async def test_time_that_is_none_is_refused(record_store: RecordStore, text: str) -> None:
    """A lease whose time nobody could read is never made, for it would never end."""
    await make(record_store, "l1")
    with pytest.raises(InvalidArgument, match=GC_EXPIRE):
        await record_store.change(leases.create(asks(), LeaseWish("l2", {GC_EXPIRE: text})))
    with pytest.raises(InvalidArgument, match=GC_EXPIRE):
        await record_store.change(leases.label(asks(), "l1", {GC_EXPIRE: text}))


async def test_lists_are_filtered_by_id_and_label_and_can_span_namespaces(record_store: RecordStore) -> None:
    """Leases are found by what containerd's filters say, of one namespace or of all."""
    for namespace in ("b", "a"):
        for lease_id in ("l2", "l1"):
            await record_store.change(
                leases.create(asks(namespace), LeaseWish(lease_id, {"of": f"{namespace}.{lease_id}"}))
            )
    page = await record_store.read(leases.list_all("a", "", 10, ["labels.of==a.l2"]))
    assert [lease.id for lease in page.records] == ["l2"]
    found: list[tuple[str, str]] = []
    after = ""
    while True:
        page = await record_store.read(leases.list_all("", after, 1, ["id==l1"]))
        found += [(lease.namespace, lease.id) for lease in page.records]
        after = page.next
        if not after:
            break
    assert found == [("a", "l1"), ("b", "l1")]
    with pytest.raises(InvalidArgument):
        await record_store.read(leases.list_all("", "l1", 1))
