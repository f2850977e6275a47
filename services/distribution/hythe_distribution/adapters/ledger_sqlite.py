"""The ledger in a SQLite file: events in the transaction of what they tell of, and facts."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence

from hythe import outbox_table
from hythe.clock import now_ns
from hythe.ports.events import OutgoingEvent
from hythe_distribution.adapters.records_file import RecordsFile
from hythe_distribution.content_events import NOUN, Happening

PRUNE_INTERVAL_S = 3600.0
PRUNED_AT_ONCE = 20_000


class SqliteLedger:
    """A body of `hythe_distribution.ledger.Ledger`. Safe for several threads."""

    def __init__(self, file: RecordsFile, before_sending: Callable[[], None] = lambda: None) -> None:
        """Keep events and facts in `file`; before events are shown, call `before_sending`, which may raise."""
        self._file = file
        self._before_sending = before_sending
        self._lock = threading.Lock()
        self._sent: list[int] = []
        self._pruned_at = time.monotonic() - PRUNE_INTERVAL_S
        self._id = self.fact("id")

    @property
    def id(self) -> str:
        """See `hythe_distribution.ledger.Ledger.id`."""
        return self._id

    def fact(self, name: str) -> str:
        """See `hythe_distribution.ledger.Ledger.fact`."""
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """See `hythe_distribution.ledger.Ledger.note`."""
        with self._file.changing("write to") as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def on_change(self, callback: Callable[[], object]) -> None:
        """See `hythe_distribution.ledger.Ledger.on_change`."""
        self._file.on_change(callback)

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`; also forgets what was sent before."""
        return await asyncio.to_thread(self._outgoing, after, limit)

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""
        with self._lock:
            self._sent += sequences

    def _outgoing(self, after: int, limit: int) -> list[OutgoingEvent]:
        self._before_sending()
        with self._lock:
            sent, self._sent = self._sent, []
        now_s = time.monotonic()
        if sent:
            with self._file.tidying("forget events in") as connection:
                outbox_table.forget(connection, sent)
                if now_s - self._pruned_at >= PRUNE_INTERVAL_S:
                    self._pruned_at = now_s
                    outbox_table.prune(connection, now_ns(), PRUNED_AT_ONCE)
        with self._file.reading() as connection:
            return outbox_table.outgoing(connection, after, limit)


def store(connection: sqlite3.Connection, happening: Happening) -> None:
    """Put an event into the outbox, in the transaction of what it tells of."""
    outbox_table.store(
        connection,
        now_ns(),
        namespace=happening.namespace,
        noun=NOUN,
        object_id=str(happening.digest),
        past=happening.past,
        topic=happening.topic,
        time=happening.time,
        attributes=happening.attributes,
        caller=happening.caller,
        request_id=happening.request_id,
        trace_id=happening.trace_id,
    )
