"""A reader that ends and begins again, over a bus that is killed, while agents publish and repeat themselves."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.event_reader import EventReader, StoredEvent
from hythe.clock import now_rfc3339
from hythe.errors import DeadlineExceeded, HytheError, Unavailable
from hythe.identifiers import new_id
from hythe.stack.streams import ensure_streams
from hythe_runtime.agent.adapters.publishing import BusEventStore
from hythe_runtime.agent.model import Event
from hythe_runtime.agent.outbox import Outbox
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.waiting import until

RESTARTS = 100
CONTAINERS = 60
BUS_KILLS = 3
LIFE = (
    ("/tasks/create", "created"),
    ("/tasks/start", "started"),
    ("/tasks/exit", "exited"),
    ("/tasks/delete", "deleted"),
)


class RepeatingStore:
    """The agent's way into the stream, on a bad day: acknowledgements get lost, and messages arrive twice."""

    def __init__(self, bus: Bus, chance: random.Random) -> None:
        self._bus = bus
        self._store = BusEventStore(bus, HOST)
        self._chance = chance
        self.repeats = 0

    async def store(self, event: Event) -> None:
        """Store an event, sometimes twice, and sometimes without saying so."""
        await self._store.store(event)
        if self._chance.random() < 0.2:
            last = await self._bus.last_stored(subjects.EVENT_STREAM, subjects.events_from_host(HOST))
            if last is not None:
                await self._bus.publish_stored(last[1].subject, last[1].data, {"Nats-Msg-Id": new_id()})
                self.repeats += 1
        if self._chance.random() < 0.1:
            raise Unavailable("store: the answer was lost", outcome="unknown")

    async def last_number(self, namespace: str, container_id: str) -> int:
        """As the real one."""
        return await self._store.last_number(namespace, container_id)


@dataclass
class Reader:
    """Reads until it is killed, and begins again behind the last event that it showed; that is all it remembers."""

    bus: SecuredBus
    chance: random.Random
    shown: list[StoredEvent] = field(default_factory=list)
    following: int = 1
    lives: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Live again and again until `over`."""
        while not self.over.is_set():
            self.lives += 1
            with contextlib.suppress(HytheError):  # a death like any other
                self._live(self.chance.randrange(7))

    def _live(self, most: int) -> None:
        client = self.bus.sync()
        try:
            reader = EventReader(client, subjects.events_of_namespace("default"), first=self.following)
            while most >= 0 and not self.over.is_set():
                try:
                    items = reader.turn(0.2)
                except (Unavailable, DeadlineExceeded) as failure:
                    reader.stream.recover(failure, lambda error: None)
                    continue
                for item in items:
                    assert isinstance(item, StoredEvent), f"{item!r} was told of a stream that lost nothing"
                    self.shown.append(item)
                    self.following = item.sequence + 1
                    most -= 1
                    if most < 0:
                        break
        finally:
            client.close()  # the server sees what a killed process leaves: a closed socket


@pytest.fixture
async def peers(bus: SecuredBus, tmp_path: Path) -> AsyncIterator[Peers]:
    """Services on the bus, whose streams are there."""
    client = bus.sync("streams")
    ensure_streams(client)
    client.close()
    made = Peers(tmp_path, bus)
    yield made
    await made.close()


async def test_reader_started_again_a_hundred_times_sees_each_transition_once_and_in_order(
    bus: SecuredBus, peers: Peers
) -> None:
    """Whatever is killed and repeated: each container's create, start, exit and delete are shown once, in this order."""
    chance = random.Random(20261125)
    store = RepeatingStore(await peers.bus("agent"), chance)
    outbox = Outbox(store, lambda container_id, number: None, [])
    outbox.start()
    reader = Reader(bus, chance)
    reading = asyncio.create_task(asyncio.to_thread(reader.run))
    ids = [new_id() for _ in range(CONTAINERS)]
    try:
        for index, container_id in enumerate(ids):
            for number, (topic, past) in enumerate(LIFE, 1):
                outbox.offer((Event(container_id, "default", number, 1, topic, past, now_rfc3339(), "", "", {}),))
            await until(lambda shown=index: len(reader.shown) > 3 * shown, 30)  # type: ignore[misc]
            if index % (CONTAINERS // (BUS_KILLS + 1)) == CONTAINERS // (BUS_KILLS + 1) - 1 and index + 1 < CONTAINERS:
                bus.server.kill()
                await asyncio.to_thread(bus.server.start)
                outbox.bus_is_back()
        while reader.lives < RESTARTS:  # how many events a life takes is chance
            ids.append(new_id())
            for number, (topic, past) in enumerate(LIFE, 1):
                outbox.offer((Event(ids[-1], "default", number, 1, topic, past, now_rfc3339(), "", "", {}),))
            await until(lambda: len(reader.shown) > len(LIFE) * (len(ids) - 1), 30)
        await until(lambda: outbox.waiting == 0 and len(reader.shown) >= len(LIFE) * len(ids), 30)
    finally:
        reader.over.set()
        await reading
        await outbox.stop()
    assert store.repeats > 10
    for container_id in ids:
        of_it = [event.body for event in reader.shown if event.body["object_id"] == container_id]
        assert [(body["number"], body["topic"]) for body in of_it] == [(n, t) for n, (t, _) in enumerate(LIFE, 1)]
    sequences = [event.sequence for event in reader.shown]
    assert sequences == sorted(set(sequences))


def test_event_of_a_publisher_that_was_set_back_is_shown(bus: SecuredBus) -> None:
    """A store that was restored from a backup counts anew from an older number: its events are no repeats."""
    maker = bus.sync("streams")
    ensure_streams(maker)
    agent = bus.sync("agent")

    def happen(number: int, time: str) -> None:
        body = f'{{"topic":"/tasks/start","namespace":"default","object_id":"x","number":{number},"time":"{time}"}}'
        agent.request(subjects.event("default", HOST, "container", "x", "started"), body.encode())

    for number, time in ((1, "T1"), (2, "T2"), (2, "T2"), (1, "T1"), (2, "T3"), (3, "T4"), (5, "T5")):
        happen(number, time)
    reader = EventReader(bus.sync(), subjects.ALL_EVENTS, first=1)
    reader.stream.stop_at_end()
    told = []
    while not reader.stream.done:
        told += reader.turn(5)
    seen = [(i.body["number"], i.body["time"]) if isinstance(i, StoredEvent) else type(i).__name__ for i in told]
    assert seen == [(1, "T1"), (2, "T2"), (2, "T3"), (3, "T4"), "Missing", (5, "T5")]
