"""How stored events reach the stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe.errors import DeadlineExceeded, Unavailable
from hythe.identifiers import new_id
from hythe.outbox import Outbox, by_object
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import ContainerWish, Origin
from hythe_metadata.adapters.sqlite_store import SqliteStore
from tests.fixtures.waiting import eventually_async


class Stream:
    """An event stream in memory that can be away, or store a message and lose the word of it."""

    def __init__(self) -> None:
        self.events: list[OutgoingEvent] = []
        self.away = False
        self.lose_answers = 0
        self.asked = 0

    async def append(self, event: OutgoingEvent) -> None:
        """Append, unless away."""
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        self.events.append(event)
        if self.lose_answers:
            self.lose_answers -= 1
            raise DeadlineExceeded("no answer")

    async def last_number(self, event: OutgoingEvent) -> int:
        """Return the last number of the event's object."""
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return max((e.number for e in self.events if (e.noun, e.object_id) == (event.noun, event.object_id)), default=0)

    def numbers(self) -> dict[str, list[int]]:
        """Return the numbers of each object's events in the order in which they were stored."""
        return {e.object_id: [o.number for o in self.events if o.object_id == e.object_id] for e in self.events}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    opened = SqliteStore(tmp_path / "metadata.db")
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def sending(store: SqliteStore, stream: Stream) -> AsyncIterator[Outbox]:
    """Send what the store has while the block lasts."""
    outbox = Outbox(store, stream)
    store.on_change(outbox.wake)
    task = asyncio.create_task(outbox.run())
    yield outbox
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def begin(store: SqliteStore) -> str:
    """Begin a container and return its id."""
    wish = ContainerWish(new_id(), new_id(), "r", "sha256:" + "0" * 64, "h1", "{}")
    await store.begin(Origin("default"), wish)
    return wish.id


async def remove(store: SqliteStore, container_id: str) -> None:
    """Remove a container."""
    await store.finish(Origin("default"), container_id, "removing")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""

    async def asked() -> bool:
        return condition()

    await eventually_async(asked)


async def test_events_of_changes_arrive_in_order_of_each_object(store: SqliteStore) -> None:
    """Each object's events reach the stream once, numbered in order."""
    stream = Stream()
    async with sending(store, stream):
        ids = await asyncio.gather(*(begin(store) for _ in range(100)))
        await asyncio.gather(*(remove(store, container_id) for container_id in ids))
        await until(lambda: len(stream.events) == 200)
    assert stream.numbers() == {container_id: [1, 2] for container_id in ids}


async def test_events_wait_while_the_stream_is_away(store: SqliteStore) -> None:
    """What can't be sent now is sent later, in order, and nothing is lost or told twice."""
    stream = Stream()
    stream.away = True
    async with sending(store, stream):
        container_id = await begin(store)
        await remove(store, container_id)
        stream.away = False
        await until(lambda: len(stream.events) == 2)
    assert stream.numbers() == {container_id: [1, 2]}


async def test_lost_answer_does_not_store_an_event_twice(store: SqliteStore) -> None:
    """When the stream has stored an event and the word of it was lost, it is not appended again."""
    stream = Stream()
    stream.lose_answers = 3
    async with sending(store, stream):
        ids = [await begin(store) for _ in range(3)]
        for container_id in ids:
            await remove(store, container_id)
        await until(lambda: len(stream.events) >= 6)
        await until(lambda: stream.lose_answers == 0)
    assert stream.numbers() == {container_id: [1, 2] for container_id in ids}


async def test_crash_between_sending_and_marking_tells_nothing_twice(store: SqliteStore) -> None:
    """Events sent by a process that died before it could note so are found in the stream by its successor."""
    stream = Stream()
    container_id = await begin(store)
    for event in await store.outgoing(0, 10):
        await stream.append(event)
    async with sending(store, stream):
        await remove(store, container_id)
        await until(lambda: len(stream.events) == 2)
    assert stream.numbers() == {container_id: [1, 2]}


async def test_stream_is_not_asked_when_there_is_no_doubt(store: SqliteStore) -> None:
    """In ordinary times an event costs one message."""
    stream = Stream()
    async with sending(store, stream):
        await begin(store)
        await until(lambda: len(stream.events) == 1)
        asked = stream.asked
        for _ in range(5):
            await begin(store)
        await until(lambda: len(stream.events) == 6)
    assert stream.asked == asked


async def test_sending_ends_when_it_is_told_to_though_it_fails_just_then(store: SqliteStore) -> None:
    """A failure at the very moment of the end does not keep the outbox running."""
    await begin(store)
    reached = asyncio.Event()

    class Failing(Stream):
        async def last_number(self, event: OutgoingEvent) -> int:
            reached.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Unavailable("away") from None
            return 0

    task = asyncio.create_task(Outbox(store, Failing()).run())
    await reached.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()


def test_events_are_grouped_by_object_in_order() -> None:
    """Objects are told apart by namespace, noun and id."""

    def event(sequence: int, namespace: str, noun: str, object_id: str) -> OutgoingEvent:
        return OutgoingEvent(sequence, namespace, noun, object_id, "created", "", 1, "", "", "", "")

    events = [
        event(1, "a", "image", "x"),
        event(2, "b", "image", "x"),
        event(3, "a", "container", "x"),
        event(4, "a", "image", "x"),
    ]
    groups = sorted([e.sequence for e in group] for group in by_object(events))
    assert groups == [[1, 4], [2], [3]]
