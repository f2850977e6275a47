"""Brings durable events to the bus's stream: each once, in order for each container, never in the way of anything.

A repeat after doubt (a lost acknowledgement, a restart) first reads the last event stored for that container: the
server's own detection of duplicates forgets after two minutes (ARCHITECTURE §7 †).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from hythe import failpoints
from hythe.errors import HytheError
from hythe_runtime.agent.ending import end_all
from hythe_runtime.agent.model import Event
from hythe_runtime.agent.ports import EventStore

log = logging.getLogger(__name__)

AT_ONCE = 8
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0

Confirm = Callable[[str, int], None]


class Outbox:
    """The events that the bus has not confirmed, by container; `offer` them, and they are sent while `run` runs."""

    def __init__(self, store: EventStore, confirm: Confirm, left_over: Iterable[tuple[Event, ...]]) -> None:
        """Begin with what an earlier agent left: whether the bus has those is in doubt.

        Args:
            confirm: called with a container's id and the number of its last event that the bus has stored.
        """
        self._store = store
        self._confirm = confirm
        self._waiting: dict[str, deque[Event]] = {}
        self._doubtful: set[str] = set()
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._back = asyncio.Event()
        self._started = False
        for events in left_over:
            self._waiting[events[0].container_id] = deque(events)
            self._doubtful.add(events[0].container_id)

    @property
    def waiting(self) -> int:
        """How many events wait to be confirmed."""
        return sum(map(len, self._waiting.values()))

    def start(self) -> None:
        """Begin to send."""
        self._started = True
        for container_id in tuple(self._waiting):
            self._send_soon(container_id)

    def offer(self, events: tuple[Event, ...]) -> None:
        """Take durable events of one container, later than all that were offered before."""
        container_id = events[0].container_id
        self._waiting.setdefault(container_id, deque()).extend(events)
        if self._started:
            self._send_soon(container_id)

    def bus_is_back(self) -> None:
        """Try again at once what failed."""
        self._back.set()
        self._back = asyncio.Event()

    async def stop(self) -> None:
        """Stop sending; what is not confirmed is sent by the next agent."""
        self._started = False
        await end_all(self._senders.values())

    def _send_soon(self, container_id: str) -> None:
        if container_id not in self._senders:
            task = asyncio.get_running_loop().create_task(self._send_all(container_id), name=f"events {container_id}")
            self._senders[container_id] = task

    async def _send_all(self, container_id: str) -> None:
        retry_s = FIRST_RETRY_S
        waiting = self._waiting[container_id]
        while waiting:
            back = self._back
            try:
                async with self._slots:
                    await self._send_next(container_id, waiting)
                retry_s = FIRST_RETRY_S
            except HytheError as error:
                self._doubtful.add(container_id)
                log.info("events wait for the bus", extra={"id": container_id, "cause": str(error)})
                try:
                    await asyncio.wait_for(back.wait(), retry_s)
                except TimeoutError:
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
        del self._waiting[container_id], self._senders[container_id]

    async def _send_next(self, container_id: str, waiting: deque[Event]) -> None:
        event = waiting[0]
        if container_id in self._doubtful:
            stored = await self._store.last_number(event.namespace, container_id)
            self._doubtful.discard(container_id)
            if stored >= event.number:
                while waiting and waiting[0].number <= stored:
                    waiting.popleft()
                self._confirm(container_id, stored)
                return
        failpoints.reach("agent.before_event")
        await self._store.store(event)
        failpoints.reach("agent.after_event")
        waiting.popleft()
        self._confirm(container_id, event.number)
