"""What is told of a container's life, and who is said to have asked for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hythe import events
from hythe_runtime.agent import entries
from hythe_runtime.agent.entries import Commanded, Created, Ended, Entry, Prepared, Removing, StepEntry
from hythe_runtime.agent.ledger import replay
from hythe_runtime.agent.model import Epoch, Event, Exit, Order
from hythe_runtime.agent.signals import SIGKILL, SIGTERM
from tests.unit.agent.records import AT, BUNDLE, CONMON, intent, life

WELL = Exit(0)
STOP = Order("stop", "alice", "req-stop")
REMOVE = Order("remove", "bob", "req-rm")
ASKED = intent(caller="carol", spec={"args": ["true"], "labels": {"app": "web", "dotted.key": "x"}, "stdin": True})


def told(*steps: Entry) -> list[Event]:
    """Return the events that steps of a container make."""
    return list(replay(steps).owed[ASKED.id])


def lived(*commands: Order, exit: Exit = WELL, oom_kills: int = 0) -> list[Event]:
    """Return the events of a container that got commands while it ran, and was removed."""
    steps = life(ASKED)
    steps[4] = Ended(ASKED.id, AT, "t", exit, oom_kills)
    return told(*steps[:4], *(Commanded(ASKED.id, Epoch(1, 3), order) for order in commands), *steps[4:])


def caller_of(found: list[Event], topic: str) -> tuple[str, str]:
    """Return caller and request of the one event of a topic."""
    (event,) = (event for event in found if event.topic == topic)
    return event.caller, event.request_id


def test_every_event_has_the_fields_of_the_table_and_no_other() -> None:
    """Each topic of a task carries what docs/events.md says."""
    found = lived(exit=Exit(137, "OOMKilled"), oom_kills=1)
    assert [event.topic for event in found] == [
        f"/tasks/{word}" for word in ("create", "start", "oom", "exit", "delete")
    ]
    assert [event.number for event in found] == [1, 2, 3, 4, 5]
    for event in found:
        assert events.faults(event.topic, "container", event.past, event.attributes) == []


def test_create_tells_all_that_containerd_tells() -> None:
    """Bundle, mounts, streams and command are in the event of the creation, names and labels in all."""
    steps: list[StepEntry] = [*life(ASKED)[:2], Created(ASKED.id, AT, "t", CONMON, 42, "/run/attach", "/log/1.log")]
    (created,) = told(*steps)
    assert created.attributes == {
        "container_id": ASKED.id,
        "bundle": BUNDLE.path,
        "rootfs.0.type": "overlay",
        "rootfs.0.source": "overlay",
        "rootfs.0.target": "",
        "rootfs.0.options": "lowerdir=/a:/b",
        "io.stdin": "/run/attach",
        "io.stdout": "/log/1.log",
        "io.stderr": "/log/1.log",
        "io.terminal": "false",
        "checkpoint": "",
        "pid": "42",
        "command.0": "true",
        "name": "web",
        "image": ASKED.reference,
        "labels.app": "web",
        "labels.dotted.key": "x",
    }
    assert events.gathered(created.attributes, "labels") == {"app": "web", "dotted.key": "x"}


def test_end_that_nobody_asked_for_has_no_caller() -> None:
    """A container that ends by itself was ended by nobody; its creation was asked for by whoever ran it."""
    found = lived()
    assert caller_of(found, "/tasks/create") == caller_of(found, "/tasks/start") == ("carol", ASKED.id)
    assert caller_of(found, "/tasks/exit") == ("", ASKED.id)


@pytest.mark.parametrize(
    ("order", "exit", "caller"),
    [
        (STOP, Exit(0), "alice"),
        (STOP, Exit(None, "lost"), "alice"),
        (REMOVE, Exit(137), "bob"),
        (Order("kill", "alice", "r", SIGKILL), Exit(137), "alice"),
        (Order("kill", "alice", "r", SIGTERM), Exit(0), "alice"),
        (Order("kill", "alice", "r", 10), Exit(138), "alice"),
        (Order("kill", "alice", "r", 10), Exit(0), ""),
        (Order("kill", "alice", "r", 1), Exit(0), ""),
    ],
)
def test_end_after_a_command_names_who_gave_it(order: Order, exit: Exit, caller: str) -> None:
    """A stop, a removal and a deadly signal are the reason of the end; SIGHUP, which many take as `reload`, is not."""
    assert caller_of(lived(order, exit=exit), "/tasks/exit")[0] == caller


def test_latest_command_counts() -> None:
    """Of two who wanted it ended the last is named, and the removal has its own."""
    found = lived(STOP, REMOVE)
    assert caller_of(found, "/tasks/exit") == ("bob", "req-rm")
    assert caller_of(lived(STOP), "/tasks/delete") == ("carol", ASKED.id), "who ran it with --rm wanted it removed"
    steps = [*life(ASKED)[:5], Commanded(ASKED.id, Epoch(1, 4), REMOVE), Removing(ASKED.id, AT, "")]
    assert caller_of(told(*steps), "/tasks/delete") == ("bob", "req-rm")


def test_creation_that_was_given_up_names_who_wanted_that() -> None:
    """A stop before the start is why the container never ran."""
    steps: list[StepEntry] = [
        *life(ASKED)[:3],
        Commanded(ASKED.id, Epoch(1, 4), STOP),
        Ended(ASKED.id, AT, "", Exit(125, "it was stopped")),
        Removing(ASKED.id, AT, "", "it was stopped"),
    ]
    found = told(*steps)
    assert caller_of(found, "/tasks/exit") == caller_of(found, "/tasks/delete") == ("alice", "req-stop")


def test_creation_that_failed_tells_no_end() -> None:
    """Without a create there is no exit and no delete."""
    assert ASKED.id not in replay([*life(ASKED)[:2], Removing(ASKED.id, AT, "", "no luck")]).owed


def test_callers_survive_the_journal() -> None:
    """Who asked is still known to the next agent, also for events that the bus has not got yet."""
    for order in (None, STOP, Order("kill", "alice", "r", 9)):
        entry = Commanded(ASKED.id, Epoch(1, 3), order)
        assert entries.decode(entries.encode(entry)) == entry
    (event, *_) = lived()
    assert entries.decode(entries.encode(entries.Owed(event))) == entries.Owed(event)
    record = replace(replay(life(ASKED)).records[ASKED.id], order=STOP)
    assert entries.decode(entries.encode(entries.Kept(record))) == entries.Kept(record)


OLD_LINES = [
    b'{"kind":"asked","intent":{"id":"0123","namespace":"default","name":"web","reference":"docker.io/library/busybox:latest",'
    b'"digest":"","spec":{"args":["true"]},"plain_http":false,"epoch":{"era":1,"revision":3},"request_id":"0123",'
    b'"trace_id":"","created_at":"2026-11-23T20:15:00.000000Z"}}',
    b'{"kind":"prepared","id":"0123","bundle":{"path":"/b/1","rootfs":"/b/1/rootfs","mounts":[],"args":["true"],'
    b'"stop_signal":""}}',
    b'{"kind":"created","id":"0123","at":"2026-11-23T20:15:00.100000Z","trace_id":"","conmon":{"pid":4711,'
    b'"start_ticks":12345,"boot_id":"0b00c1f0-0000-4000-8000-000000000000"},"pid":42}',
    b'{"kind":"started","id":"0123","at":"2026-11-23T20:15:00.200000Z","trace_id":""}',
    b'{"kind":"commanded","id":"0123","epoch":{"era":1,"revision":4}}',
    b'{"kind":"ended","id":"0123","at":"2026-11-23T20:15:00.300000Z","trace_id":"","exit":{"code":7}}',
    b'{"kind":"owed","event":{"container_id":"4567","namespace":"default","number":3,"run":1,"topic":"/tasks/exit",'
    b'"past":"exited","time":"2026-11-23T20:15:00.000000Z","request_id":"4567","trace_id":"","attributes":{"pid":"1"}}}',
]


def test_journal_of_an_older_agent_is_read() -> None:
    """Entries from before callers were written down make the same events, with nobody as caller."""
    ledger = replay(entries.decode(line) for line in OLD_LINES)
    found = ledger.owed["0123"]
    assert [(event.topic, event.caller) for event in found] == [
        ("/tasks/create", ""),
        ("/tasks/start", ""),
        ("/tasks/exit", ""),
    ]
    assert all(events.faults(event.topic, "container", event.past, event.attributes) == [] for event in found)
    assert ledger.owed["4567"][0].caller == ""
    assert ledger.records["0123"].epoch == Epoch(1, 4)


def test_bundle_that_is_not_known_leaves_its_fields_empty() -> None:
    """A creation that is told by recovery, without what was lost, still has every field."""
    (event,) = told(life(ASKED)[0], Prepared(ASKED.id, BUNDLE), Created(ASKED.id, AT, "", None, 0))
    assert events.faults(event.topic, "container", event.past, event.attributes) == []
