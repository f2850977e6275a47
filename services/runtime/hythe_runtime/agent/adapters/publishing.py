"""What the agent tells without being asked: status, heartbeat, events, and the chunks of io channels."""

from __future__ import annotations

import asyncio
import logging

from hythe import clock, subjects
from hythe.bus.connection import Bus
from hythe.bus.event_stream import BusEventStream
from hythe.errors import Unavailable
from hythe.ports.events import OutgoingEvent
from hythe.wire.agent import Beat
from hythe.wire.io import OFFSET_HEADER, Credit, IoEnd
from hythe_runtime.agent.convert import status_to_wire
from hythe_runtime.agent.model import Event, Exit, Status
from hythe_runtime.agent.status import Board

log = logging.getLogger(__name__)

BEAT_INTERVAL_S = 1.0
NOUN = "container"


class BusOutlet:
    """`hythe_runtime.agent.ports.Outlet`: statuses and heartbeats in order, none of them kept while the bus is away.

    A reader that missed a status sees it in the numbers and asks for the full list.
    """

    def __init__(self, bus: Bus, host: str, instance: str) -> None:
        self._bus = bus
        self._host = host
        self._instance = instance
        self._queue: asyncio.Queue[Status | Beat] = asyncio.Queue()

    def status(self, status: Status) -> None:
        """Publish a status."""
        self._queue.put_nowait(status)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            item = await self._queue.get()
            if isinstance(item, Status):
                message = status_to_wire(item, self._host, self._instance)
                subject, data = subjects.status(message.namespace, self._host), message.model_dump_json()
            else:
                subject, data = subjects.beat(self._host), item.model_dump_json()
            try:
                await self._bus.publish(subject, data.encode())
            except Unavailable:
                pass

    async def beat(self, board: Board) -> None:
        """Send a heartbeat each second until cancelled, behind the statuses whose numbers it bears."""
        boot_id = clock.boot_id()
        while True:
            self._queue.put_nowait(
                Beat(
                    host=self._host,
                    instance=self._instance,
                    boot_id=boot_id,
                    boottime_ms=clock.boottime_ms(),
                    change=board.change,
                )
            )
            await asyncio.sleep(BEAT_INTERVAL_S)


class BusEventStore:
    """`hythe_runtime.agent.ports.EventStore` by the stream of events, as all services write it."""

    def __init__(self, bus: Bus, host: str) -> None:
        self._bus = bus
        self._host = host

    def _of(self, container_id: str) -> BusEventStream:
        """Return the stream for the events of one container, whose id and number make a message's id."""
        return BusEventStream(self._bus, container_id, self._host)

    async def store(self, event: Event) -> None:
        """Store an event; the server drops a repeat of its message id within two minutes."""
        await self._of(event.container_id).append(
            OutgoingEvent(
                sequence=event.number,
                namespace=event.namespace,
                noun=NOUN,
                object_id=event.container_id,
                past=event.past,
                topic=event.topic,
                number=event.number,
                time=event.time,
                caller=event.caller,
                request_id=event.request_id,
                trace_id=event.trace_id,
                attributes=event.attributes,
                run=event.run,
            )
        )

    async def last_number(self, namespace: str, container_id: str) -> int:
        """Return the number of the last event stored for a container, 0 if there is none."""
        return await self._of(container_id).last_number_of(namespace, NOUN, container_id)


class BusIoTransport:
    """`hythe_runtime.agent.ports.IoTransport` by plain messages."""

    def __init__(self, bus: Bus, host: str) -> None:
        self._bus = bus
        self._host = host

    async def send(self, namespace: str, channel: str, stream: str, offset: int, data: bytes) -> None:
        """Send a chunk whose first byte is byte `offset` of its stream."""
        subject = subjects.io(namespace, self._host, channel, stream)
        await self._bus.publish(subject, data, {OFFSET_HEADER: str(offset)})

    async def grant(self, namespace: str, channel: str, have: int, until: int, *, resend: bool) -> None:
        """Tell the client which of its standard input was taken and how far it may send."""
        credit = Credit(stream="stdin", have=have, until=until, resend=resend)
        await self._bus.publish(
            subjects.io(namespace, self._host, channel, "credit"), credit.model_dump_json().encode()
        )

    async def end(self, namespace: str, channel: str, end: Exit, stdout: int, stderr: int, gap: str) -> None:
        """Send the last message of a channel: how the process ended and the final offset of each stream."""
        message = IoEnd(exit_code=end.code, reason=end.reason, stdout_bytes=stdout, stderr_bytes=stderr, gap=gap)
        await self._bus.publish(subjects.io(namespace, self._host, channel, "end"), message.model_dump_json().encode())
