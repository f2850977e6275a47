"""Brings stored events into the event stream: each at least once, those of one object in order, never on a request's path."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from hythe.errors import HytheError
from hythe.ports.events import EventSource, OutgoingEvent

BATCH = 64
GATHER_S = 0.02  # lets the answer of the change go first, and events of a burst go together
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 2.0

_log = logging.getLogger(__name__)


class EventStream(Protocol):
    """The stored stream of events."""

    async def append(self, event: OutgoingEvent) -> None:
        """Append `event`, and return when it is stored.

        Raises:
            HytheError: it may or may not have been stored.
        """

    async def last_number(self, event: OutgoingEvent) -> int:
        """Return the number of the last event of this event's object in the stream; 0 if there is none.

        Raises:
            HytheError: not known now.
        """


class Outbox:
    """Sends what the source has, until all is sent, and again when woken.

    An event that may have been sent before (at the start, and after a failure) is looked for in the stream first:
    the server's own window for duplicates is not enough (ARCHITECTURE §7 †).
    """

    def __init__(self, source: EventSource, stream: EventStream, *, in_order: bool = False) -> None:
        """Send events of different objects at once, or with `in_order` one after the other, in the order of the source."""
        self._in_order = in_order
        self._source = source
        self._stream = stream
        self._more = asyncio.Event()
        self._sent_until = 0
        self._doubt_until = sys.maxsize

    def wake(self) -> None:
        """Look for new events soon."""
        self._more.set()

    def doubt(self) -> None:
        """Look for each event in the stream before it is sent: another process may have sent some."""
        self._sent_until = 0
        self._doubt_until = sys.maxsize

    async def run(self) -> None:
        """Send for ever; what can't be sent now is tried again, after 0.1 s at first and 2 s at most."""
        retry_s = FIRST_RETRY_S
        while True:
            self._more.clear()
            try:
                while await self._send_batch():
                    retry_s = FIRST_RETRY_S
                await self._more.wait()
                await asyncio.sleep(GATHER_S)
            except Exception as error:  # noqa: BLE001 - the periodic loop: what fails now is tried again
                if retry_s == FIRST_RETRY_S:
                    _log.warning("events wait to be sent: %s", error, exc_info=not isinstance(error, HytheError))
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _send_batch(self) -> bool:
        """Send the oldest events; tell whether there were any."""
        events = await self._source.outgoing(self._sent_until, BATCH)
        if not events:
            self._doubt_until = self._sent_until
            return False
        last = events[-1].sequence
        doubtful = {event.sequence for event in events if event.sequence <= self._doubt_until}
        self._doubt_until = max(self._doubt_until, last)  # until all of them are known to be there
        if self._in_order:
            sending = [self._send_one_by_one(events, doubtful)]
        else:
            sending = [self._send(same_object, doubtful) for same_object in by_object(events)]
        # Not a TaskGroup: Python 3.11's loses a cancellation that comes while one of its tasks fails.
        for outcome in await asyncio.gather(*sending, return_exceptions=True):
            if outcome is not None:
                raise outcome
        self._sent_until = last
        self._source.sent([event.sequence for event in events])
        return True

    async def _send_one_by_one(self, events: Sequence[OutgoingEvent], doubtful: set[int]) -> None:
        for event in events:
            await self._send([event], doubtful)

    async def _send(self, events: list[OutgoingEvent], doubtful: set[int]) -> None:
        in_stream = 0
        if events[0].sequence in doubtful:
            in_stream = await self._stream.last_number(events[0])
        for event in events:
            if event.number > in_stream:
                await self._stream.append(event)


def by_object(events: Iterable[OutgoingEvent]) -> list[list[OutgoingEvent]]:
    """Return `events` grouped by the object they tell of, each group in the order given."""

    def key(event: OutgoingEvent) -> tuple[str, str, str]:
        return event.namespace, event.noun, event.object_id

    return [list(group) for _, group in itertools.groupby(sorted(events, key=key), key)]
