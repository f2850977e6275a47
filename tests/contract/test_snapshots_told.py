"""Events of snapshots: each change is told once, in order, and exactly if it has happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import pytest

from hythe import outbox_table, tracing
from hythe.asking import Asker, working_for
from hythe.errors import HytheError
from hythe.ports.events import OutgoingEvent
from hythe_bundle.adapters.event_source import SnapshotEvents
from hythe_bundle.adapters.snapshot_events import MAX_ID_BYTES
from tests.contract.test_snapshots_crashes import DEATHS, STEPS, recorded, start
from tests.fixtures.snapshots import Body, commit, run_process, stage, write


def told(body: Body) -> Sequence[OutgoingEvent]:
    """Return all events that wait to be sent."""
    return body.database.look(lambda connection: outbox_table.outgoing(connection, 0, 1000))


def replay(events: Sequence[OutgoingEvent]) -> dict[str, str]:
    """Return which snapshots there are, and their kinds, by what is told; of views nothing is."""
    known: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for event in events:
        assert event.number == numbers.get(event.object_id, 0) + 1
        numbers[event.object_id] = event.number
        key = event.attributes["key"]
        if event.topic == "/snapshot/prepare":
            known[key] = "active"
        elif event.topic == "/snapshot/commit":
            known.pop(key, None)
            known[event.attributes["name"]] = "committed"
        elif event.topic == "/snapshot/remove":
            known.pop(key, None)
    return known


async def test_events_have_containerd_s_topics_and_fields(body: Body) -> None:
    """Making, committing and removing a snapshot are told with what containerd tells of them, and who asked."""
    tracing.namespace.set("team")
    with working_for(Asker("alice", "r" * 32)):
        await commit(body.snapshots, "base", "", write(a="1"))
        await body.snapshots.prepare("key", "base")
        await body.snapshots.commit("top", "key")
        await body.snapshots.view("shown", "top")
        await body.snapshots.remove("shown")
        await body.snapshots.remove("top")
    events = told(body)
    own = {"snapshotter": body.snapshots.name}
    assert [(event.topic, event.past, event.object_id, event.number, event.attributes) for event in events] == [
        ("/snapshot/commit", "committed", "extract-1 base", 1, {"key": "extract-1 base", "name": "base", **own}),
        ("/snapshot/prepare", "prepared", "key", 1, {"key": "key", "parent": "base", **own}),
        ("/snapshot/commit", "committed", "key", 2, {"key": "key", "name": "top", **own}),
        ("/snapshot/remove", "removed", "shown", 1, {"key": "shown", **own}),
        ("/snapshot/remove", "removed", "top", 1, {"key": "top", **own}),
    ]
    asked = {(event.namespace, event.noun, event.caller, event.request_id) for event in events}
    assert asked == {("team", "snapshot", "alice", "r" * 32)}


async def test_what_did_not_happen_is_not_told(body: Body) -> None:
    """A refused change tells nothing, and one that its asker gave up tells what became of it."""
    await commit(body.snapshots, "base", "", write(a="1"))
    before = list(told(body))
    for refused in (
        body.snapshots.prepare("key", "nowhere"),
        body.snapshots.prepare("base", ""),
        body.snapshots.remove("nowhere"),
        body.snapshots.commit("top", "base"),
        body.snapshots.commit_stage(await stage(body.snapshots, write(a="2")), "base", ""),
    ):
        with pytest.raises(HytheError):
            await refused
    assert told(body) == before
    for turns in range(12):
        task = asyncio.create_task(body.snapshots.prepare(f"key-{turns}", "base"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert replay(told(body)) == await recorded(body)


async def test_name_that_fits_no_subject_has_a_shorter_id(body: Body) -> None:
    """A snapshot with the longest name there may be is told of as well: the name is a field, the id is made from it."""
    name = "ä" * 1024
    await body.snapshots.prepare(name, "")
    await body.snapshots.remove(name)
    first, second = told(body)
    assert first.attributes["key"] == name and first.object_id == second.object_id
    assert len(first.object_id.encode()) <= MAX_ID_BYTES and (first.number, second.number) == (1, 2)


@pytest.mark.parametrize(("verb", "point", "done"), [*DEATHS, ("remove", "removed", True)])
async def test_events_agree_with_the_records_after_a_kill(body: Body, verb: str, point: str, done: bool) -> None:
    """Wherever the service is killed: what is told is what has happened, without a gap, also after the repeat."""
    await start(body)
    await body.close()
    name, other = STEPS[verb][:2] if verb != "remove" else ("unused", "")
    code = run_process(body.name, body.directory, verb, name, other, failpoints=f"bundle.snapshot.{point}=kill")
    assert code == -signal.SIGKILL
    body.reopen()
    assert replay(told(body)) == await recorded(body)
    if not done:
        await body.close()
        assert run_process(body.name, body.directory, verb, name, other) == 0
        body.reopen()
    assert replay(told(body)) == await recorded(body)
    assert (name in await recorded(body)) != (verb == "remove")


async def test_event_is_shown_only_when_its_change_is_on_the_disk(body: Body) -> None:
    """A removal is committed without fsync; who reads the events waits for the next one, or for one of its own."""
    await commit(body.snapshots, "base", "", write(a="1"))
    await body.snapshots.prepare("one", "base")
    await body.snapshots.prepare("two", "base")
    events = SnapshotEvents(body.database, sync_within_s=60)
    shown = await events.outgoing(0, 100)
    events.sent([event.sequence for event in shown])
    assert await events.outgoing(shown[-1].sequence, 100) == []
    await body.snapshots.remove("one")
    waiting = asyncio.create_task(events.outgoing(shown[-1].sequence, 100))
    await body.database.write(lambda connection: None, durable_commit=False)  # the writer had its turn
    assert not waiting.done()
    await body.snapshots.prepare("three", "base")
    assert [event.topic for event in await waiting] == ["/snapshot/remove"]
    hasty = SnapshotEvents(body.database, sync_within_s=0.01)
    await body.snapshots.remove("two")
    assert [event.object_id for event in await hasty.outgoing(0, 100)] == ["one", "three", "two"]
    assert body.database.read("SELECT 1 FROM about WHERE key = 'synced_at'")


async def test_sent_events_are_forgotten_and_numbers_go_on(body: Body) -> None:
    """What is in the stream is not kept here as well; the next event of the same snapshot has the next number, also later."""
    events = SnapshotEvents(body.database, sync_within_s=0.01)
    await body.snapshots.prepare("key", "")
    shown = await events.outgoing(0, 100)
    events.sent([event.sequence for event in shown])
    assert await events.outgoing(shown[-1].sequence, 100) == [] and told(body) == []
    await body.restart()
    await body.snapshots.remove("key")
    await body.snapshots.prepare("key", "")
    assert [(event.sequence, event.number) for event in told(body)] == [(2, 2), (3, 3)]
