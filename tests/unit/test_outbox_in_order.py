"""An outbox whose events tell one story: they reach the stream in the order in which they were made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hythe.errors import DeadlineExceeded, Unavailable
from hythe.outbox import Outbox
from hythe.ports.events import OutgoingEvent
from tests.fixtures.waiting import until


def event(sequence: int, object_id: str, number: int) -> OutgoingEvent:
    """Return an event."""
    return OutgoingEvent(sequence, "", "snapshot", object_id, "made", "/snapshot/make", number, "now")


class Source:
    """Events that wait to be sent."""

    def __init__(self, events: Sequence[OutgoingEvent]) -> None:
        self.events = list(events)

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `EventSource.outgoing`."""
        return [one for one in self.events if one.sequence > after][:limit]

    def sent(self, sequences: Sequence[int]) -> None:
        """See `EventSource.sent`."""
        self.events = [one for one in self.events if one.sequence not in sequences]


class Stream:
    """A stream that is the slower the earlier an event was made, and loses the word of each third event."""

    def __init__(self) -> None:
        self.stored: list[OutgoingEvent] = []
        self.tried = 0

    async def append(self, event: OutgoingEvent) -> None:
        """See `EventStream.append`."""
        self.tried += 1
        for _ in range(20 - event.sequence):
            await asyncio.sleep(0)
        if self.tried % 4 == 1:
            raise Unavailable("away")
        self.stored.append(event)
        if self.tried % 3 == 0:
            raise DeadlineExceeded("no answer")

    async def last_number(self, event: OutgoingEvent) -> int:
        """See `EventStream.last_number`."""
        return max((one.number for one in self.stored if one.object_id == event.object_id), default=0)


async def test_events_of_several_objects_keep_their_order() -> None:
    """Whatever fails and however long it takes: a reader sees each event once, and what came first first."""
    events = [event(1, "a", 1), event(2, "b", 1), event(3, "a", 2), event(4, "c", 1), event(5, "b", 2)]
    source, stream = Source(events), Stream()
    task = asyncio.create_task(Outbox(source, stream, in_order=True).run())
    await until(lambda: not source.events, what="all are sent")
    task.cancel()
    await asyncio.wait([task])
    assert stream.stored == events
