"""Events that a process has stored with the changes they tell of, until they are in the stream of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event that was stored with the change it tells of and is not yet known to be in the event stream.

    Attributes:
        sequence: place in its publisher's outbox; grows.
        past: what was done, the last token of the event's subject.
        topic: containerd's.
        number: counts the events of this object from 1 without gaps.
        time: RFC 3339 UTC.
        caller: key that asked for the change, as the bus fixes it; empty where nobody asked.
        attributes: containerd's payload fields as text; `hythe.events` lists them.
        run: number of the container's run; 0 for what has none.
    """

    sequence: int
    namespace: str
    noun: str
    object_id: str
    past: str
    topic: str
    number: int
    time: str
    caller: str = ""
    request_id: str = ""
    trace_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    run: int = 0


class EventSource(Protocol):
    """Where a process keeps its events until they are sent. Durable: what was stored is there after a crash."""

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """Return the oldest events beyond sequence `after` that are not marked as sent, in order."""

    def sent(self, sequences: Sequence[int]) -> None:
        """Mark events as being in the event stream; not durable at once, so a crash may show them again."""
