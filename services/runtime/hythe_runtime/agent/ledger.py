"""What the journal's entries add up to: records, tombstones, and events that the bus has not confirmed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hythe.errors import Internal
from hythe_runtime.agent import states
from hythe_runtime.agent.entries import (
    Asked,
    Buried,
    Commanded,
    Confirmed,
    Created,
    Ended,
    Entry,
    Kept,
    Owed,
    Prepared,
    Removed,
    Removing,
    Started,
    StepEntry,
)
from hythe_runtime.agent.model import Event, Record, Tombstone
from hythe_runtime.agent.task_events import events_of

TOMBSTONE_S = 7 * 86400
MAX_TOMBSTONES = 65_536


@dataclass(frozen=True, slots=True)
class Change:
    """What one step changed: the container as it is now (None: removed) and the event that this makes, if any."""

    record: Record
    events: tuple[Event, ...]


class Ledger:
    """The sum of all entries so far.

    Attributes:
        records: containers that are here, by id.
        tombstones: containers that were removed, by id, oldest first.
        owed: events to be confirmed, by container, in order; none is empty.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.tombstones: dict[str, Tombstone] = {}
        self.owed: dict[str, tuple[Event, ...]] = {}

    def step(self, entry: StepEntry) -> Change:
        """Take one step of a container.

        Raises:
            Internal: the step cannot follow the container's present state.
        """
        before = self.records.get(entry.id)
        state = states.after(before.state if before else None, entry.kind, entry.id)
        if isinstance(entry, Asked):
            intent = entry.intent
            record = Record(intent, state, intent.epoch)
        else:
            assert before is not None  # the table lets only `asked` begin
            record = replace(before, state=state, **_fields(entry))
        events = events_of(entry, record)
        if events:
            record = replace(record, number=events[-1].number)
            self.owed[entry.id] = self.owed.get(entry.id, ()) + events
        if isinstance(entry, Removed):
            del self.records[entry.id]
            self._bury(Tombstone(entry.id, record.intent.namespace, record.epoch, entry.at_s, record.reason))
        else:
            self.records[entry.id] = record
        return Change(record, events)

    def forget(self, container_id: str) -> None:
        """Take back a container whose first entry could not be written; nothing was done for it."""
        self.records.pop(container_id, None)

    def confirm(self, entry: Confirmed) -> None:
        """Drop the events that the bus has stored."""
        left = tuple(event for event in self.owed.get(entry.id, ()) if event.number > entry.number)
        if left:
            self.owed[entry.id] = left
        else:
            self.owed.pop(entry.id, None)

    def _bury(self, tombstone: Tombstone) -> None:
        self.tombstones[tombstone.id] = tombstone
        oldest = next(iter(self.tombstones.values()))
        while len(self.tombstones) > MAX_TOMBSTONES or oldest.at_s <= tombstone.at_s - TOMBSTONE_S:
            del self.tombstones[oldest.id]
            oldest = next(iter(self.tombstones.values()))

    def snapshot(self, now_s: int) -> list[Entry]:
        """Return entries that add up to this ledger, without tombstones older than 7 days."""
        return [
            *(Buried(stone) for stone in self.tombstones.values() if stone.at_s > now_s - TOMBSTONE_S),
            *(Kept(record) for record in self.records.values()),
            *(Owed(event) for events in self.owed.values() for event in events),
        ]


def replay(entries: Iterable[Entry]) -> Ledger:
    """Return the ledger that `entries` add up to.

    Raises:
        Internal: a step cannot follow the state before it.
    """
    ledger = Ledger()
    for entry in entries:
        if isinstance(entry, Kept):
            ledger.records[entry.record.id] = entry.record
        elif isinstance(entry, Buried):
            ledger._bury(entry.tombstone)
        elif isinstance(entry, Owed):
            owed = ledger.owed.get(entry.event.container_id, ())
            ledger.owed[entry.event.container_id] = (*owed, entry.event)
        elif isinstance(entry, Confirmed):
            ledger.confirm(entry)
        else:
            ledger.step(entry)
    return ledger


def _fields(entry: StepEntry) -> dict[str, Any]:
    if isinstance(entry, Prepared):
        return {"bundle": entry.bundle}
    if isinstance(entry, Created):
        return {"conmon": entry.conmon, "pid": entry.pid, "created_at": entry.at}
    if isinstance(entry, Started):
        return {"started_at": entry.at}
    if isinstance(entry, Commanded):
        return {"epoch": entry.epoch, **({"order": entry.order} if entry.order else {})}
    if isinstance(entry, Ended):
        return {"exit": entry.exit, "finished_at": entry.at, "reason": entry.exit.reason}
    if isinstance(entry, Removing):
        return {"reason": entry.reason} if entry.reason else {}
    if isinstance(entry, Removed):
        return {}
    raise Internal(f"change container {entry.id}: {entry.kind!r} comes first")
