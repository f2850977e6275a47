"""Stands for the bus as the agent's domain uses it: io channels, statuses and events end in lists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hythe.errors import Unavailable
from hythe_runtime.agent.model import Event, Exit, Status


@dataclass
class ReceivedChannel:
    """What came over one io channel. `end` is (how it ended, stdout offset, stderr offset, gap)."""

    streams: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    grants: list[tuple[int, int, bool]] = field(default_factory=list)
    end: tuple[Exit, int, int, str] | None = None
    gaps: int = 0


class FakeTransport:
    """`hythe_runtime.agent.ports.IoTransport`: takes chunks that follow on, and counts those that don't.

    Attributes:
        connected: while False, sending raises Unavailable.
        lose: how many of the next chunks are lost on the way.
    """

    def __init__(self) -> None:
        self.channels: dict[str, ReceivedChannel] = {}
        self.connected = True
        self.lose = 0
        self.news = asyncio.Event()

    def channel(self, channel: str) -> ReceivedChannel:
        """Return what came over a channel."""
        return self.channels.setdefault(channel, ReceivedChannel())

    async def send(self, namespace: str, channel: str, stream: str, offset: int, data: bytes) -> None:
        """Take a chunk."""
        self._check()
        received = self.channel(channel)
        if self.lose:
            self.lose -= 1
            return
        taken = received.streams[stream]
        if offset > len(taken):
            received.gaps += 1
        else:
            taken += data[len(taken) - offset :]
        self.news.set()

    async def grant(self, namespace: str, channel: str, have: int, until: int, *, resend: bool) -> None:
        """Take credit for standard input."""
        self._check()
        self.channel(channel).grants.append((have, until, resend))
        self.news.set()

    async def end(self, namespace: str, channel: str, end: Exit, stdout: int, stderr: int, gap: str) -> None:
        """Take the end."""
        self._check()
        self.channel(channel).end = (end, stdout, stderr, gap)
        self.news.set()

    def _check(self) -> None:
        if not self.connected:
            raise Unavailable("publish: not connected to the bus")


class FakeEventStore:
    """`hythe_runtime.agent.ports.EventStore` that remembers every event it stored, by container.

    Attributes:
        fail_before: raise for this many calls without storing.
        fail_after: store, then raise as if the acknowledgement was lost, for this many calls.
    """

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.fail_before = 0
        self.fail_after = 0

    async def store(self, event: Event) -> None:
        """Store an event, duplicates too: nothing but the asker prevents them here."""
        if self.fail_before:
            self.fail_before -= 1
            raise Unavailable("store: away")
        self.events.setdefault(event.container_id, []).append(event)
        if self.fail_after:
            self.fail_after -= 1
            raise Unavailable("store: the answer was lost", outcome="unknown")

    async def last_number(self, namespace: str, container_id: str) -> int:
        """Return the number of the last event of a container."""
        if self.fail_before:
            self.fail_before -= 1
            raise Unavailable("read: away")
        events = self.events.get(container_id, [])
        return events[-1].number if events else 0


class FakeOutlet:
    """`hythe_runtime.agent.ports.Outlet` that keeps all statuses."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []

    def status(self, status: Status) -> None:
        """Keep a status."""
        self.statuses.append(status)
