"""The event stream on the bus, as a service with an outbox writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pydantic import ValidationError

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import DataLoss
from hythe.outbox import Outbox
from hythe.ports.events import EventSource, OutgoingEvent
from hythe.wire.base import read_reply
from hythe.wire.events import Event

_MESSAGE_ID = "Nats-Msg-Id"


@asynccontextmanager
async def sending(
    source: EventSource,
    on_change: Callable[[Callable[[], None]], None],
    bus: Bus,
    origin: str,
    host: str,
    *,
    in_order: bool = False,
) -> AsyncIterator[Outbox]:
    """Send the events of `source` while the block runs, woken by each change and each return of the bus.

    Args:
        on_change: is given what wakes the outbox; that may be called in any thread while the block runs.
        origin, host: see `BusEventStream`.
        in_order: see `Outbox`.
    """
    outbox, loop = Outbox(source, BusEventStream(bus, origin, host), in_order=in_order), asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(outbox.wake)

    on_change(wake)
    bus.on_reconnect(outbox.wake)
    task = asyncio.create_task(outbox.run(), name=f"outbox-{origin}")
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait([task])


class BusEventStream:
    """Appends to `hythe.subjects.EVENT_STREAM`; keeps the promises of `hythe.outbox.EventStream`."""

    def __init__(self, bus: Bus, origin: str, host: str) -> None:
        """Write events of `host`, empty for those of no host; `origin` makes message ids that no other outbox uses."""
        self._bus = bus
        self._origin = origin
        self._host = host

    async def append(self, event: OutgoingEvent) -> None:
        """Append one event and wait until the server has stored it.

        Raises:
            Unavailable: not connected, or there is no stream.
            DeadlineExceeded: no word from the server; it may be stored.
        """
        message = Event(
            topic=event.topic,
            namespace=event.namespace,
            host=self._host,
            object_id=event.object_id,
            number=event.number,
            run=event.run,
            time=event.time,
            caller=event.caller,
            request_id=event.request_id,
            trace_id=event.trace_id,
            attributes=dict(event.attributes),
        )
        subject = subjects.event(event.namespace, self._host, event.noun, event.object_id, event.past)
        headers = {_MESSAGE_ID: f"{self._origin}.{event.sequence}"}
        await self._bus.publish_stored(subject, message.model_dump_json().encode(), headers)

    async def last_number(self, event: OutgoingEvent) -> int:
        """Return the number of the last event of the same object in the stream; 0 if there is none.

        Raises:
            Unavailable: not connected, or there is no stream.
            DeadlineExceeded: no word from the server.
            DataLoss: what is stored there is no event.
        """
        return await self.last_number_of(event.namespace, event.noun, event.object_id)

    async def last_number_of(self, namespace: str, noun: str, object_id: str) -> int:
        """As `last_number`, for the events of an object."""
        subject = subjects.events_of_object(namespace, self._host, noun, object_id)
        found = await self._bus.last_stored(subjects.EVENT_STREAM, subject)
        if found is None:
            return 0
        try:
            return read_reply(Event, found[1].data).number
        except ValidationError as error:
            raise DataLoss(f"read the last event of {object_id}: not understood", cause=str(error)) from error
