"""What journal entries add up to."""

from __future__ import annotations

import pytest

from hythe.errors import Internal
from hythe_runtime.agent import entries
from hythe_runtime.agent.entries import Asked, Commanded, Confirmed, Ended, Entry, Removed, Removing, Started
from hythe_runtime.agent.ledger import MAX_TOMBSTONES, TOMBSTONE_S, Ledger, replay
from hythe_runtime.agent.model import Epoch, Exit, Tombstone
from tests.unit.agent.records import AT, BUNDLE, CONMON, intent, life


def test_every_entry_survives_its_json() -> None:
    """What is written to the journal is read as the same, whatever kind it is."""
    asked = intent()
    ledger = replay(life(asked))
    all_kinds: list[Entry] = [
        *life(asked),
        Commanded(asked.id, Epoch(2, 9)),
        Removed(asked.id, 1_800_000_000),
        Confirmed(asked.id, 3),
        *ledger.snapshot(0),
        entries.Buried(Tombstone(asked.id, "default", Epoch(1, 1), 5, "why")),
        Ended(asked.id, AT, "", Exit(None, "the host was rebooted")),
    ]
    for entry in all_kinds:
        assert entries.decode(entries.encode(entry)) == entry


def test_life_of_a_container_gives_its_four_events_numbered() -> None:
    """Readers of events see create, start, exit and delete, in this order, with containerd's fields."""
    asked = intent()
    ledger = replay(life(asked))
    events = ledger.owed[asked.id]
    assert [(e.number, e.topic, e.past) for e in events] == [
        (1, "/tasks/create", "created"),
        (2, "/tasks/start", "started"),
        (3, "/tasks/exit", "exited"),
        (4, "/tasks/delete", "deleted"),
    ]
    assert (events[0].attributes["bundle"], events[0].attributes["pid"]) == ("/b/1", "42")
    assert events[2].attributes["exit_status"] == "7"
    assert events[2].attributes["exited_at"] == AT
    assert {e.trace_id for e in events} == {""}
    assert {e.request_id for e in events} == {asked.id}


def test_creation_that_failed_before_create_makes_no_event() -> None:
    """Nobody hears of a container that never came to be."""
    asked = intent()
    ledger = replay([Asked(asked), Removing(asked.id, AT, "", "no bundle"), Removed(asked.id, 1)])
    assert ledger.owed == {}
    assert ledger.tombstones[asked.id].reason == "no bundle"


def test_exit_that_nobody_could_learn_has_a_reason_and_no_code() -> None:
    """An unknown exit code is not made up: the event's field is empty and says why."""
    asked = intent()
    ledger = replay([*life(asked)[:4], Ended(asked.id, AT, "", Exit(None, "the monitor was lost"))])
    exited = ledger.owed[asked.id][-1]
    assert exited.attributes["exit_status"] == ""
    assert exited.attributes["reason"] == "the monitor was lost"


def test_snapshot_adds_up_to_the_same_ledger() -> None:
    """Compaction changes nothing."""
    first, second = intent(), intent()
    ledger = replay([*life(first), Removed(first.id, 1000), *life(second)[:4], Confirmed(second.id, 1)])
    again = replay(ledger.snapshot(1000))
    assert again.records == ledger.records
    assert again.tombstones == ledger.tombstones
    assert again.owed == ledger.owed


def test_step_that_cannot_follow_is_refused() -> None:
    """A container cannot start before it was created."""
    asked = intent()
    ledger = replay([Asked(asked)])
    with pytest.raises(Internal, match="'started' cannot follow state 'creating'"):
        ledger.step(Started(asked.id, AT, ""))


def test_tombstones_are_kept_a_week_and_not_without_bound() -> None:
    """A late command to a removed container is refused for 7 days; memory stays bounded."""
    ledger = Ledger()
    asked = intent()
    for entry in [*life(asked), Removed(asked.id, 1000)]:
        ledger.step(entry)
    assert len(ledger.snapshot(1000 + TOMBSTONE_S - 1)) == 1 + 4
    assert not any(isinstance(e, entries.Buried) for e in ledger.snapshot(1000 + TOMBSTONE_S))
    for number in range(MAX_TOMBSTONES):
        stone = Tombstone(f"{number:032x}", "default", Epoch(1, 1), 2000)
        ledger.tombstones[stone.id] = stone
    other = intent()
    for entry in [*life(other), Removed(other.id, 1000)]:
        ledger.step(entry)
    assert len(ledger.tombstones) == MAX_TOMBSTONES
    assert asked.id not in ledger.tombstones


def test_record_carries_what_recovery_needs() -> None:
    """After the steps of a start the record has bundle, monitor and pid."""
    asked = intent()
    record = replay(life(asked)[:4]).records[asked.id]
    assert (record.state, record.bundle, record.conmon, record.pid) == ("running", BUNDLE, CONMON, 42)
