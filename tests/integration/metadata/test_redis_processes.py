"""Several processes on one Redis: counters by compare-and-set, news of each other's changes, and who sends the events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from hythe.outbox import Outbox
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import Origin
from hythe_metadata.adapters.redis_store import RedisStore
from hythe_metadata.changes import Happening
from hythe_metadata.records import Key, Transaction
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually_async, until
from tests.integration.metadata import counting_process

ROOT = Path(__file__).resolve().parents[3]
CALLERS, TIMES = 8, 12


def counted(url: str) -> Counter[str]:
    """Return how often two processes say that they have raised each counter."""
    command = [sys.executable, counting_process.__file__, url, str(CALLERS), str(TIMES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    total: Counter[str] = Counter()
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        total.update(json.loads(said))
    assert total.total() == 2 * CALLERS * TIMES
    return total


async def stored(server: RedisServer, prefix: str) -> Counter[str]:
    """Return what the counters say."""
    store = RedisStore(server.place(prefix))
    found = await store.read(lambda view: {s.key.name: int(s.body) for s in view.scan("content", "counting")})
    await store.close()
    return Counter(found)


async def test_counters_of_two_processes_lose_no_count(redis_server: RedisServer) -> None:
    """When two processes raise counters by compare-and-set, each raise counts once."""
    assert counted(redis_server.url("counters")) == await stored(redis_server, "counters")


@pytest.fixture
async def pair(redis_server: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two bodies of one store, as two processes have them."""
    stores = RedisStore(redis_server.place()), RedisStore(redis_server.place())
    yield stores
    for store in stores:
        await store.close()


def tell(name: str) -> Callable[[Transaction], None]:
    """Return a work that changes a record and emits an event of it."""

    def work(transaction: Transaction) -> None:
        transaction.put(Key("image", "a", name), "{}")
        transaction.emit(Origin("a", "tester"), Happening("image", name, "updated", "/test"))

    return work


async def test_change_by_another_process_is_heard_of(pair: tuple[RedisStore, RedisStore]) -> None:
    """Who watches a store hears of each change, whichever process made it."""
    left, right = pair
    heard: list[str] = []
    left.on_change(lambda: heard.append("left"))
    right.on_change(lambda: heard.append("right"))
    await left.change(tell("n"))
    await until(lambda: {"left", "right"} <= set(heard), what="both hear of the change")


async def test_both_processes_see_one_store(pair: tuple[RedisStore, RedisStore]) -> None:
    """What one process has acknowledged, the other reads and builds on at once, and revisions go on."""
    left, right = pair
    assert left.store_id == right.store_id

    def count(transaction: Transaction) -> int:
        key = Key("image", "a", "n")
        present = transaction.get(key)
        value = int(present.body) + 1 if present else 1
        transaction.put(key, str(value))
        return transaction.moment.revision

    revisions = [await (left, right)[turn % 2].change(count) for turn in range(20)]
    assert revisions == list(range(1, 21))
    found = await left.read(lambda view: view.get(Key("image", "a", "n")))
    assert found is not None
    assert found.body == "20"


async def test_events_go_to_one_process_at_a_time(pair: tuple[RedisStore, RedisStore]) -> None:
    """Only one process gets the events to send, in order; when it ends in good order, another gets what is left at once."""
    left, right = pair
    turns: list[str] = []
    left.on_turn(lambda: turns.append("left"))
    right.on_turn(lambda: turns.append("right"))
    for name in ("n1", "n2", "n1"):
        await right.change(tell(name))
    got = await left.outgoing(0, 10)
    assert [(event.object_id, event.number) for event in got] == [("n1", 1), ("n2", 1), ("n1", 2)]
    assert await right.outgoing(0, 10) == []
    left.sent([got[0].sequence])
    await eventually_async(lambda: _one_left(left), what="what was sent is forgotten")
    await left.close()
    assert [event.number for event in await right.outgoing(0, 10)] == [1, 2]
    assert turns == ["left", "right"]


async def _one_left(store: RedisStore) -> bool:
    return len(await store.outgoing(0, 10)) == 2


class Sender:
    """A process that has taken the turn to send events, and sends none."""

    CODE = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from hythe_metadata.wiring import open_store\n"
        "async def main():\n"
        "    store = open_store(sys.argv[1], Path('/nowhere'))\n"
        "    print(len(await store.outgoing(0, 10)), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )

    def __init__(self, url: str) -> None:
        """Start it and wait until it has one event."""
        self._process = subprocess.Popen([sys.executable, "-c", self.CODE, url], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"1\n"

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()


async def test_events_of_a_dead_process_go_to_another(redis_server: RedisServer) -> None:
    """When the process that sends events is killed, another takes over within seconds, and is woken for it."""
    store = RedisStore(redis_server.place())
    await store.change(tell("n"))
    sender = Sender(redis_server.url())
    assert await store.outgoing(0, 10) == []
    sender.kill()
    woken = asyncio.Event()
    store.on_change(woken.set)

    async def taken_over() -> int:
        await asyncio.wait_for(woken.wait(), 10)
        woken.clear()
        return len(await store.outgoing(0, 10))

    assert await eventually_async(taken_over) == 1
    await store.close()


class Stream:
    """An event stream in memory; keeps the promises of `hythe.outbox.EventStream`."""

    def __init__(self) -> None:
        self.events: list[OutgoingEvent] = []

    async def append(self, event: OutgoingEvent) -> None:
        """Append an event."""
        self.events.append(event)

    async def last_number(self, event: OutgoingEvent) -> int:
        """Return the number of the last event of the same object."""
        return max((e.number for e in self.events if e.object_id == event.object_id), default=0)


class Asked:
    """The events of a store, and how often they were asked for."""

    def __init__(self, store: RedisStore) -> None:
        self.times = 0
        self._store = store

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`."""
        found = await self._store.outgoing(after, limit)
        self.times += 1
        return found

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""
        self._store.sent(sequences)


async def test_successor_sends_nothing_twice(pair: tuple[RedisStore, RedisStore]) -> None:
    """A process that takes the turn over sends what is left, and not again what its predecessor had sent without saying so."""
    left, right = pair
    stream, source = Stream(), Asked(right)
    await left.change(tell("n"))
    assert len(await left.outgoing(0, 10)) == 1
    outbox = Outbox(source, stream)
    right.on_change(outbox.wake)
    right.on_turn(outbox.doubt)
    sending = asyncio.create_task(outbox.run())
    await until(lambda: source.times >= 1, what="right sees that there is nothing for it to send")
    await left.change(tell("n"))
    for event in await left.outgoing(0, 10):
        await stream.append(event)
    await left.close()
    await right.change(tell("n"))
    await until(lambda: len(stream.events) >= 3, what="right has taken over")
    await eventually_async(lambda: _nothing_waits(right), what="all is sent")
    assert [event.number for event in stream.events] == [1, 2, 3]
    sending.cancel()
    await asyncio.wait([sending])


async def _nothing_waits(store: RedisStore) -> bool:
    return not await store.outgoing(0, 10)
