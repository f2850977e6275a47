"""The ledger in memory: for tests, and beside content in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from hythe.identifiers import new_id
from hythe.ports.events import OutgoingEvent
from hythe_distribution.content_events import NOUN, Happening


class MemoryLedger:
    """A body of `hythe_distribution.ledger.Ledger` that forgets everything when its process ends."""

    def __init__(self) -> None:
        self.id = new_id()
        self._lock = threading.Lock()
        self._facts: dict[str, str] = {}
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._events: list[OutgoingEvent] = []
        self._last = 0
        self._on_change: list[Callable[[], object]] = []

    def fact(self, name: str) -> str:
        """See `hythe_distribution.ledger.Ledger.fact`."""
        return self._facts.get(name, "")

    def note(self, name: str, value: str) -> None:
        """See `hythe_distribution.ledger.Ledger.note`."""
        self._facts[name] = value

    def on_change(self, callback: Callable[[], object]) -> None:
        """See `hythe_distribution.ledger.Ledger.on_change`."""
        self._on_change.append(callback)

    def store(self, happening: Happening) -> None:
        """Number an event and keep it."""
        with self._lock:
            self._last += 1
            self._numbers[happening.namespace, str(happening.digest)] += 1
            self._events.append(
                OutgoingEvent(
                    self._last,
                    happening.namespace,
                    NOUN,
                    str(happening.digest),
                    happening.past,
                    happening.topic,
                    self._numbers[happening.namespace, str(happening.digest)],
                    happening.time,
                    happening.caller,
                    happening.request_id,
                    happening.trace_id,
                    happening.attributes,
                )
            )
        for callback in self._on_change:
            callback()

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`."""
        with self._lock:
            return [event for event in self._events if event.sequence > after][:limit]

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""
        with self._lock:
            self._events = [event for event in self._events if event.sequence not in sequences]
