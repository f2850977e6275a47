"""Requests about namespaces, leases, hosts, networks and volumes over a real bus, and watching across a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.bus.service import Service
from hythe.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    HytheError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
)
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe.wire.base import Empty, Reply
from hythe.wire.gc import StoreMark
from hythe.wire.intents import (
    NetworkCreate,
    NetworkGet,
    NetworkLabel,
    NetworkList,
    NetworkPage,
    NetworkRecord,
    NetworkRemove,
    VolumeRecord,
    VolumeRecordGet,
    VolumeRecordLabel,
    VolumeRecordList,
    VolumeRecordPage,
    VolumeRecordPut,
    VolumeRecordRemove,
)
from hythe.wire.leases import (
    ContentRefer,
    ContentReference,
    LeaseAdd,
    LeaseCreate,
    LeaseDrop,
    LeaseGet,
    LeaseLabel,
    LeaseList,
    LeasePage,
    LeaseRecord,
    LeaseRemove,
    LeaseRenew,
    LeaseResource,
)
from hythe.wire.records import (
    ChangesGet,
    ChangesPage,
    HostGet,
    HostLabel,
    HostList,
    HostPage,
    HostRecord,
    HostRegister,
    HostRemove,
    NamespaceCreate,
    NamespaceGet,
    NamespaceLabel,
    NamespaceList,
    NamespacePage,
    NamespaceRecord,
    NamespaceRemove,
)
from hythe_metadata import leases
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.hosts_seen import HostsSeen
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.lease_handlers import LeaseHandlers
from hythe_metadata.record_handlers import HostHandlers, IntentHandlers, NamespaceHandlers
from hythe_metadata.records import Key, Transaction
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer

DIGEST = "sha256:" + "a" * 64
BLOB = LeaseResource(kind="content", name=DIGEST)


class Lab:
    """Metadata's endpoints on a bus.

    Attributes:
        collections: how often a collection was asked for.
    """

    def __init__(self, secured: SecuredBus, peers: Peers) -> None:
        self.secured = secured
        self.peers = peers
        self.store = MemoryStore(kept_changes=1000)
        self.collections = 0

    async def start(self) -> None:
        """Answer as metadata does."""

        def register(service: Service) -> None:
            NamespaceHandlers(self.store).register(service)
            HostHandlers(self.store, HostsSeen()).register(service)
            IntentHandlers(self.store).register(service)
            LeaseHandlers(self.store, LeaseClock(), self.collect).register(service)

        await self.peers.service("metadata", register)
        self.admin = await self.peers.bus("admin")

    async def collect(self) -> None:
        """Stand for a collection."""
        self.collections += 1


@pytest.fixture
async def lab(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Lab]:
    """A bus with metadata on it."""
    secured = SecuredBus(tmp_path, start_nats)
    peers = Peers(tmp_path, secured)
    made = Lab(secured, peers)
    await made.start()
    yield made
    await peers.close()


def subject(noun: str, verb: str, caller: str = "admin", namespace: str = "default") -> str:
    """Return the subject of a request."""
    return subjects.rpc(namespace, caller, "metadata", noun, verb)


async def test_namespace_lives_from_creation_to_removal(lab: Lab) -> None:
    """All requests about a namespace work over the bus, and its events bear who asked in which request."""
    request_id = new_id()
    created = await lab.admin.call(
        subject("namespace", "create"),
        NamespaceCreate(name="team", labels={"a": "1"}),
        NamespaceRecord,
        request_id=request_id,
    )
    assert await lab.admin.call(subject("namespace", "get"), NamespaceGet(name="team"), NamespaceRecord) == created
    label = NamespaceLabel(name="team", labels={"b": "2"}, if_revision=created.revision)
    labelled = await lab.admin.call(subject("namespace", "label"), label, NamespaceRecord)
    assert labelled.labels == {"a": "1", "b": "2"}
    with pytest.raises(Conflict):
        await lab.admin.call(subject("namespace", "label"), label, NamespaceRecord)
    page = await lab.admin.call(subject("namespace", "list"), NamespaceList(filters=["labels.b==2"]), NamespacePage)
    assert page.namespaces == [labelled]
    lease = await lab.admin.call(subject("lease", "create", namespace="team"), LeaseCreate(), LeaseRecord)
    with pytest.raises(FailedPrecondition) as caught:
        await lab.admin.call(subject("namespace", "remove"), NamespaceRemove(name="team"), Empty)
    assert caught.value.cause == "it has 1 lease"
    await lab.admin.call(subject("lease", "remove", namespace="team"), LeaseRemove(id=lease.id), Empty)
    await lab.admin.call(subject("namespace", "remove"), NamespaceRemove(name="team"), Empty)
    with pytest.raises(NotFound):
        await lab.admin.call(subject("namespace", "get"), NamespaceGet(name="team"), NamespaceRecord)
    told = await lab.store.outgoing(0, 10)
    assert [event.topic for event in told] == ["/namespaces/create", "/namespaces/update", "/namespaces/delete"]
    assert (told[0].namespace, told[0].caller, told[0].request_id) == ("team", "admin", request_id)


async def test_lease_lives_from_creation_to_removal(lab: Lab) -> None:
    """All requests about a lease work over the bus for who works under leases; `sync` collects before the answer."""
    runtime = await lab.peers.bus("runtime")

    def ask(verb: str) -> str:
        return subject("lease", verb, "runtime")

    made = await runtime.call(ask("create"), LeaseCreate(duration_s=60, resources=[BLOB]), LeaseRecord)
    assert (made.resources, made.duration_s, made.expired) == ([BLOB], 60, False)
    assert made.left_s is not None and 50 < made.left_s <= 60
    image = LeaseResource(kind="image", name="localhost/a:1")
    added = await runtime.call(ask("add"), LeaseAdd(id=made.id, resources=[image]), LeaseRecord)
    assert added.resources == [BLOB, image]
    dropped = await runtime.call(ask("drop"), LeaseDrop(id=made.id, resources=[BLOB]), LeaseRecord)
    assert dropped.resources == [image]
    await runtime.call(ask("renew"), LeaseRenew(id=made.id), Empty)
    labelled = await runtime.call(ask("label"), LeaseLabel(id=made.id, labels={"a": "1"}), LeaseRecord)
    found = await runtime.call(ask("get"), LeaseGet(id=made.id), LeaseRecord)
    page = await runtime.call(ask("list"), LeaseList(filters=["labels.a==1"]), LeasePage)
    assert found.revision == labelled.revision == page.leases[0].revision
    await runtime.call(ask("remove"), LeaseRemove(id=made.id), Empty)
    assert lab.collections == 0
    await runtime.call(ask("remove"), LeaseRemove(id=made.id, sync=True), Empty)
    assert lab.collections == 1
    with pytest.raises(NotFound):
        await runtime.call(ask("renew"), LeaseRenew(id=made.id), Empty)


async def test_content_is_referred_to_under_a_lease(lab: Lab) -> None:
    """Bundle refers to what it is about to make, and is told which store it spoke to."""
    bundle = await lab.peers.bus("bundle")
    refer = ContentRefer(lease="commit/1", content=[ContentReference(digest=DIGEST, labels={"a": "1"})])
    mark = await bundle.call(subject("content", "refer", "bundle"), refer, StoreMark)
    assert (mark.store_id, mark.era, mark.generation) == (lab.store.store_id, 1, 0)
    lease = await lab.store.read(leases.get("default", "commit/1"))
    assert (lease.revision, lease.duration_s) == (mark.revision, 60)


async def test_agent_may_register_and_nothing_else(lab: Lab) -> None:
    """An agent says who it is; it can't look at, label or forget hosts, nor write any other record."""
    agent = await lab.peers.bus("agent")
    wish = HostRegister(name="h1", boot_id="b", instance=new_id(), root_id=new_id(), version="0.1")
    record = await agent.call(subject("host", "register", "agent", ""), wish, HostRecord)
    assert (record.name, record.alive) == ("h1", False)
    with pytest.raises(PermissionDenied):
        await agent.call(subject("host", "remove", "agent", ""), HostRemove(name="h1"), Empty)
    other = wish.model_copy(update={"root_id": new_id(), "instance": new_id()})
    with pytest.raises(AlreadyExists):
        await agent.call(subject("host", "register", "agent", ""), other, HostRecord)


async def test_operators_look_at_hosts(lab: Lab) -> None:
    """Hosts are listed, labelled and shown to the operator."""
    wish = HostRegister(name="h1", boot_id="b", instance=new_id(), root_id=new_id())
    agent = await lab.peers.bus("agent")
    await agent.call(subject("host", "register", "agent", ""), wish, HostRecord)
    labelled = await lab.admin.call(subject("host", "label"), HostLabel(name="h1", labels={"rack": "7"}), HostRecord)
    assert await lab.admin.call(subject("host", "get"), HostGet(name="h1"), HostRecord) == labelled
    page = await lab.admin.call(subject("host", "list"), HostList(filters=["labels.rack==7"]), HostPage)
    assert page.hosts == [labelled]
    await lab.admin.call(subject("host", "remove"), HostRemove(name="h1"), Empty)
    with pytest.raises(NotFound):
        await lab.admin.call(subject("host", "get"), HostGet(name="h1"), HostRecord)


async def test_networks_and_volumes_are_recorded(lab: Lab) -> None:
    """All requests about networks and volumes work over the bus."""
    create = NetworkCreate(name="lab", subnet="10.88.0.0/16")
    network = await lab.admin.call(subject("network", "create"), create, NetworkRecord)
    network = await lab.admin.call(
        subject("network", "label"), NetworkLabel(name="lab", labels={"a": "1"}), NetworkRecord
    )
    assert await lab.admin.call(subject("network", "get"), NetworkGet(name="lab"), NetworkRecord) == network
    assert (await lab.admin.call(subject("network", "list"), NetworkList(), NetworkPage)).networks == [network]
    await lab.admin.call(subject("network", "remove"), NetworkRemove(name="lab", if_revision=network.revision), Empty)
    volume = await lab.admin.call(subject("volume", "record"), VolumeRecordPut(name="data", host="h1"), VolumeRecord)
    label = VolumeRecordLabel(name="data", labels={"a": "1"}, if_revision=volume.revision)
    volume = await lab.admin.call(subject("volume", "label"), label, VolumeRecord)
    assert await lab.admin.call(subject("volume", "get"), VolumeRecordGet(name="data"), VolumeRecord) == volume
    everywhere = subject("volume", "list", namespace="")
    assert (await lab.admin.call(everywhere, VolumeRecordList(), VolumeRecordPage)).volumes == [volume]
    await lab.admin.call(subject("volume", "remove"), VolumeRecordRemove(name="data"), Empty)
    assert (await lab.admin.call(everywhere, VolumeRecordList(), VolumeRecordPage)).volumes == []


async def test_newer_client_is_refused_clearly(lab: Lab) -> None:
    """A request with a field that this metadata doesn't know is refused by that field's name; nothing is done by halves."""

    class FutureCreate(NamespaceCreate):
        colour: str = "blue"

    with pytest.raises(InvalidArgument, match="colour"):
        await lab.admin.call(subject("namespace", "create"), FutureCreate(name="team"), NamespaceRecord)
    with pytest.raises(NotFound):
        await lab.admin.call(subject("namespace", "get"), NamespaceGet(name="team"), NamespaceRecord)


async def test_older_client_understands_a_newer_record(lab: Lab) -> None:
    """Fields that a client doesn't know, also within resources of a lease, don't keep it from reading the rest."""

    class OldRecord(Reply):
        id: str

    made = await lab.admin.call(subject("lease", "create"), LeaseCreate(id="l1", resources=[BLOB]), LeaseRecord)
    old = await lab.admin.call(subject("lease", "get"), LeaseGet(id="l1"), OldRecord)
    assert old.id == made.id

    def grow(transaction: Transaction) -> None:
        key = Key("lease", "default", "l1")
        stored = transaction.get(key)
        assert stored is not None
        body = stored.body.replace('{"kind"', '{"colour":"blue","kind"').replace(
            '{"created_at"', '{"size":1,"created_at"'
        )
        assert body.count("blue") == body.count('"size":1') == 1
        transaction.put(key, body)

    await lab.store.change(grow)
    newer = await lab.admin.call(subject("lease", "get"), LeaseGet(id="l1"), LeaseRecord)
    assert newer.resources == [BLOB]


async def test_filter_that_cannot_be_read_is_refused_with_its_place(lab: Lab) -> None:
    """A misspelt filter reaches its author with its position."""
    with pytest.raises(InvalidArgument, match="position 6"):
        await lab.admin.call(subject("namespace", "list"), NamespaceList(filters=["name==,"]), NamespacePage)


async def make(lab: Lab, number: int) -> int:
    """Make a lease in the store and return its revision."""
    origin = Origin("default", "admin", new_id())
    made = await lab.store.change(leases.create(origin, leases.LeaseWish(f"l{number}")))
    return made.revision


async def watch(bus: Bus, after: int, era: int, wanted: int) -> list[int]:
    """Return the revisions that a watcher sees, which asks again whatever goes wrong."""
    seen: list[int] = []
    while len(seen) < wanted:
        request = ChangesGet(after=after, era=era, limit=7, wait_s=0.5, kinds=["lease"])
        try:
            page = await bus.call(subject("record", "changes"), request, ChangesPage)
        except OutOfRange:
            raise
        except HytheError:
            await bus.wait_connected(5)
            continue
        seen += [change.revision for change in page.changes]
        after = page.revision
    return seen


async def test_watcher_misses_nothing_across_a_lost_bus(lab: Lab) -> None:
    """Whoever watches sees each of 200 changes once and in order, although the bus dies and comes back meanwhile."""
    begun = await lab.admin.call(subject("record", "changes"), ChangesGet(), ChangesPage)
    watching = asyncio.create_task(watch(lab.admin, begun.revision, begun.era, 200))
    first = await asyncio.gather(*(make(lab, number) for number in range(100)))
    await asyncio.to_thread(lab.secured.server.kill)
    second = await asyncio.gather(*(make(lab, number) for number in range(100, 150)))
    await asyncio.to_thread(lab.secured.server.start)
    third = await asyncio.gather(*(make(lab, number) for number in range(150, 200)))
    assert await asyncio.wait_for(watching, 30) == sorted([*first, *second, *third])


async def test_watcher_that_was_away_for_too_long_is_told(lab: Lab) -> None:
    """Changes that the log has dropped are never passed over in silence."""
    first = await make(lab, 0)
    for number in range(1, 1100):
        await make(lab, number)
    with pytest.raises(OutOfRange) as caught:
        await lab.admin.call(subject("record", "changes"), ChangesGet(after=first), ChangesPage)
    assert int(caught.value.details["oldest"]) > first
    assert "read everything again" in caught.value.next_step
