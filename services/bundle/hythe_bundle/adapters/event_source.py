"""The events of the bundle service's database, for the one who sends them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from hythe import outbox_table
from hythe.clock import now_ns
from hythe.ports.events import OutgoingEvent
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.database_schema import EVENTS_ID

SYNC_WITHIN_S = 1.0
PRUNE_INTERVAL_S = 3600.0
PRUNED_AT_ONCE = 5_000


class SnapshotEvents:
    """Keeps the promises of `hythe.ports.events.EventSource`.

    What an event tells of is durable before the event is shown: a crash of the machine never takes back what the stream says.
    For a change that was committed without fsync that means to wait for the next commit with one, at most for 1 s.
    """

    def __init__(self, database: Database, sync_within_s: float = SYNC_WITHIN_S) -> None:
        self._database = database
        self._sync_within_s = sync_within_s
        self._pruned_at_s = time.monotonic() - PRUNE_INTERVAL_S
        self._sent: list[int] = []

    @property
    def id(self) -> str:
        """Id of this outbox, made with it; no other has it."""
        return str(self._database.read("SELECT value FROM about WHERE key = ?", (EVENTS_ID,))[0][0])

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `EventSource.outgoing`; also forgets what was sent before."""
        found = self._database.look(lambda connection: outbox_table.outgoing(connection, after, limit))
        if found:
            await self._database.settle(self._sync_within_s)
        await self._forget()  # only now, for it is a change without fsync itself
        return found

    def sent(self, sequences: Sequence[int]) -> None:
        """See `EventSource.sent`."""
        self._sent += sequences

    async def _forget(self) -> None:
        sent, now_s = tuple(self._sent), time.monotonic()
        if not sent:
            return
        prune = now_s - self._pruned_at_s >= PRUNE_INTERVAL_S

        def work(connection: sqlite3.Connection) -> None:
            outbox_table.forget(connection, sent)
            if prune:
                outbox_table.prune(connection, now_ns(), PRUNED_AT_ONCE)

        await self._database.write(work, durable_commit=False)
        del self._sent[: len(sent)]
        if prune:
            self._pruned_at_s = now_s
