"""The bundle process on a real bus as an owner in garbage collection, and as the one who tells of snapshots."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.wire import gc
from hythe.wire import snapshots as wire
from hythe.wire.base import Empty
from hythe.wire.events import Event
from scripts.lab.images import ImageBuilder, Layer
from tests.fakes.registry import FakeRegistry
from tests.fixtures.collecting import STORE
from tests.fixtures.event_stream import events, make_stream
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually, until
from tests.integration.bundle.test_service import is_on_disk, prepare, release, request
from tests.integration.distribution.processes import ServiceProcess, connect

ReplyT = TypeVar("ReplyT", bound=BaseModel)


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def bundle(tmp_path: Path, secured: SecuredBus) -> Iterator[ServiceProcess]:
    """A running bundle process."""
    process = ServiceProcess("bundle", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
async def metadata(bundle: ServiceProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the metadata service has it."""
    connected = await connect(bundle, secured, "metadata")
    yield connected
    await connected.close()


@pytest.fixture
async def admin(bundle: ServiceProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the operator's command has it."""
    connected = await connect(bundle, secured, "admin")
    yield connected
    await connected.close()


class Asking:
    """Requests of metadata to one host's bundle service."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.generation = 0
        self.instance = ""

    async def _ask(self, verb: str, body: BaseModel, answer: type[ReplyT]) -> ReplyT:
        return await self._bus.call(subjects.host_rpc("", HOST, "bundle", "gc", verb), body, answer)

    async def begin(self, store_id: str = STORE) -> gc.GcBegun:
        """Begin the next collection."""
        self.generation += 1
        body = gc.GcBegin(store_id=store_id, era=1, revision=1, generation=self.generation)
        begun = await self._ask("begin", body, gc.GcBegun)
        self.instance = begun.instance
        return begun

    async def mark(self, *roots: str) -> gc.GcMarked:
        """Say what is referred to."""
        body = gc.GcSnapshotMark(generation=self.generation, instance=self.instance, roots=list(roots))
        return await self._ask("mark", body, gc.GcMarked)

    async def sweep(self) -> gc.GcSwept:
        """Sweep, a page that is large enough."""
        body = gc.GcSnapshotSweep(generation=self.generation, instance=self.instance)
        return await self._ask("sweep", body, gc.GcSwept)

    async def trust(self, store_id: str) -> None:
        """Confirm a store."""
        body = gc.GcTrust(store_id=store_id, era=1, revision=1, generation=self.generation)
        await self._ask("trust", body, Empty)

    async def explain(self, name: str) -> gc.GcExplained:
        """Ask what keeps a snapshot."""
        return await self._ask("explain", gc.GcExplain(name=name), gc.GcExplained)

    async def usage(self, *roots: str) -> dict[str, gc.GcUsageRow]:
        """Ask for what is used."""
        found = await self._ask("usage", gc.GcUsageGet(roots=list(roots)), gc.GcUsage)
        return {row.kind: row for row in found.rows}


@pytest.fixture
def asking(metadata: Bus) -> Asking:
    """The one who collects."""
    return Asking(metadata)


async def make(bus: Bus, name: str, parent: str = "", **labels: str) -> None:
    """Make an active snapshot."""
    subject = subjects.host_rpc("team", HOST, "bundle", "snapshot", "prepare")
    body = wire.SnapshotPrepare(name=name, parent=parent, labels=labels)
    async with bus.operate(subject, body, Empty, wire.SnapshotMounts) as operation:
        await operation.wait()


async def seal(bus: Bus, name: str, key: str) -> None:
    """Commit an active snapshot."""
    subject = subjects.host_rpc("team", HOST, "bundle", "snapshot", "commit")
    async with bus.operate(subject, wire.SnapshotCommit(name=name, key=key), Empty, Empty) as operation:
        await operation.wait()


async def remove(bus: Bus, name: str) -> None:
    """Remove a snapshot."""
    subject = subjects.host_rpc("team", HOST, "bundle", "snapshot", "remove")
    await bus.call(subject, wire.SnapshotRemove(name=name), Empty)


async def known(bus: Bus) -> dict[str, str]:
    """Return the kinds of all snapshots by name."""
    subject = subjects.host_rpc("", HOST, "bundle", "snapshot", "list")
    found = await bus.call(subject, wire.SnapshotList(), wire.SnapshotPage)
    return {snapshot.name: snapshot.kind for snapshot in found.snapshots}


def told(secured: SecuredBus) -> list[tuple[subjects.EventSubject, Event]]:
    """Return what is in the event stream, in order."""
    return [(subjects.parse_event(where), event) for where, event in events(secured)]


async def test_collected_image_is_fetched_and_unpacked_again(
    tmp_path: Path,
    secured: SecuredBus,
    bundle: ServiceProcess,
    asking: Asking,
    admin: Bus,
    fake_registry: FakeRegistry,
) -> None:
    """A container keeps its image's layers though nobody else does; released, they go, and the next container has them again."""
    image = ImageBuilder().config(Cmd=["sh"]).layer(Layer().file("a")).layer(Layer().file("b")).build()
    reference = fake_registry.serve(image, "gone:1")
    distribution = ServiceProcess("distribution", tmp_path, secured)
    distribution.start()
    agent = await connect(bundle, secured, "agent")
    try:
        begun = await asking.begin()
        assert (begun.trusted, begun.snapshotter) == (True, "overlayfs")
        await asking.mark()
        wanted = request(image, reference)
        await prepare(agent, wanted)
        assert (await asking.sweep()).removed == []
        await asking.begin()
        assert (await asking.mark()).unmarked == 0
        assert (await asking.explain(wanted.id)).snapshots[0].held == f"bundle {wanted.id}"
        assert (await asking.usage())["containers"].active == 1
        await release(agent, wanted.id)
        await asking.begin()
        assert (await asking.mark()).unmarked == 2
        swept = await asking.sweep()
        assert len(swept.removed) == 2 and swept.carried_out and swept.freed_bytes > 0
        assert await known(admin) == {}
        prepared, _ = await prepare(agent, request(image, reference))
        assert is_on_disk(prepared) and len(await known(admin)) == 3
    finally:
        await agent.close()
        distribution.end()


async def test_restarted_service_refuses_the_sweep_of_its_former_life(
    bundle: ServiceProcess, asking: Asking, admin: Bus
) -> None:
    """What a killed service noted is lost, so the collection that it began removes nothing any more; the next one does."""
    await make(admin, "left")
    await asking.begin()
    await asking.mark()
    bundle.end(signal.SIGKILL)
    bundle.start()
    with pytest.raises(FailedPrecondition, match="hasn't begun in this life"):
        await asking.sweep()
    assert await known(admin) == {"left": "active"}
    await asking.begin()
    await asking.mark()
    assert (await asking.sweep()).removed == ["left"]


async def test_another_store_removes_nothing_until_it_is_confirmed(
    bundle: ServiceProcess, asking: Asking, admin: Bus
) -> None:
    """The first store that a new host hears is its own; any other only hears what would go, also after a restart."""
    await make(admin, "left")
    assert (await asking.begin()).trusted
    other = "6" * 32
    for _ in range(2):
        begun = await asking.begin(other)
        assert (begun.trusted, begun.reason) == (False, "unknown store")
        await asking.mark()
        swept = await asking.sweep()
        assert (swept.removed, swept.carried_out) == (["left"], False)
        bundle.end(signal.SIGKILL)
        bundle.start()
    assert await known(admin) == {"left": "active"}
    await asking.trust(other)
    assert (await asking.begin(other)).trusted
    await asking.mark()
    assert (await asking.sweep()).carried_out
    assert await known(admin) == {}


async def test_events_of_snapshots_say_who_asked_for_what(
    secured: SecuredBus, bundle: ServiceProcess, asking: Asking, admin: Bus
) -> None:
    """Each change is in the stream under its host and the namespace of its request, a collection's under none."""
    make_stream(secured)
    await make(admin, "key")
    await asking.begin()
    await asking.begin()  # the first one noted that the snapshot was made
    await asking.mark()
    await asking.sweep()
    found = eventually(lambda: told(secured)[1:] and told(secured), what="two events")
    assert [(where.namespace, where.host, where.noun, where.object_id, where.past) for where, _ in found] == [
        ("team", HOST, "snapshot", "key", "prepared"),
        ("", HOST, "snapshot", "key", "removed"),
    ]
    first, second = (event for _, event in found)
    assert (first.topic, first.attributes["snapshotter"], first.number) == ("/snapshot/prepare", "overlayfs", 1)
    assert len(first.request_id) == 32 and len(first.trace_id) == 32 and first.request_id != second.request_id
    assert (second.topic, second.number) == ("/snapshot/remove", 1)


async def test_events_have_no_gap_across_kills_and_loss_of_the_bus(
    secured: SecuredBus, bundle: ServiceProcess, asking: Asking, admin: Bus
) -> None:
    """However often service and bus die, the stream tells each change once and in order, and agrees with what there is."""
    make_stream(secured)
    await make(admin, "kept")
    for turn in range(4):
        name = f"s{turn % 2}"
        await make(admin, name)
        if turn % 2:
            secured.server.kill()
            await until(lambda: not admin.connected, what="the connection is lost")
        bundle.end(signal.SIGKILL)
        if turn % 2:
            await asyncio.to_thread(secured.server.start)
            await until(lambda: admin.connected, what="the connection is back")
        bundle.start()
        if turn % 2 == 0:
            await remove(admin, name)
        else:
            await seal(admin, f"layer{turn}", name)
    await remove(admin, "kept")
    eventually(lambda: [event for _, event in told(secured) if event.attributes["key"] == "kept"][1:], what="the last")
    bundle.end()
    there: dict[str, str] = {}
    numbers: dict[tuple[str, str], int] = {}
    for where, event in told(secured):
        key = (where.namespace, where.object_id)
        assert event.number == numbers.get(key, 0) + 1
        numbers[key] = event.number
        there.pop(event.attributes["key"], None)
        if event.topic == "/snapshot/prepare":
            there[event.attributes["key"]] = "active"
        elif event.topic == "/snapshot/commit":
            there[event.attributes["name"]] = "committed"
    bundle.start()
    assert there == await known(admin) == {"layer1": "committed", "layer3": "committed"}
    assert numbers == {("team", "kept"): 2, ("team", "s0"): 4, ("team", "s1"): 4}


async def test_requests_that_cannot_be_understood_change_nothing(asking: Asking, admin: Bus, metadata: Bus) -> None:
    """A place to go on from that no sweep has told, and a page of no size, are refused."""
    await make(admin, "left")
    await asking.begin()
    await asking.mark()
    subject = subjects.host_rpc("", HOST, "bundle", "gc", "sweep")
    good = gc.GcSnapshotSweep(generation=asking.generation, instance=asking.instance)
    for bad in ({"after": "nonsense"}, {"limit": 0}):
        with pytest.raises(InvalidArgument):
            await metadata.call(subject, good.model_copy(update=bad), gc.GcSwept)
    assert await known(admin) == {"left": "active"}
