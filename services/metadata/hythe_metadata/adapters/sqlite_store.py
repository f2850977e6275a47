"""The SQLite body of the metadata store: one file, one thread that writes, others that read beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hythe import outbox_table
from hythe.clock import now_ns
from hythe.ports.events import OutgoingEvent
from hythe_metadata.adapters.batches import Batches, Observe
from hythe_metadata.adapters.sqlite_body import SqliteBody
from hythe_metadata.adapters.sqlite_high_water import look
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_readers import Readers
from hythe_metadata.adapters.sqlite_schema import begin_log, open_store
from hythe_metadata.adapters.sqlite_upkeep import prune
from hythe_metadata.adapters.sqlite_view import SqliteView
from hythe_metadata.records import Read, Work

KEPT_CHANGES = 100_000

T = TypeVar("T")


def _observe_nothing(changes: int, seconds: float) -> None:
    pass


class SqliteStore:
    """Keeps the promises of `hythe_metadata.records.RecordStore`."""

    def __init__(self, path: Path, observe: Observe = _observe_nothing, kept_changes: int = KEPT_CHANGES) -> None:
        """Open the store at `path`, making it if there is none; blocks until it is checked.

        One that is behind what was seen at its place before, as an old copy is, gets a higher era as a restored one does.

        Args:
            path: the file; its directory must exist.
            observe: told of each commit how many changes it had and how many seconds it took, in another thread.
            kept_changes: how many entries the log of changes keeps at least.

        Raises:
            DataLoss: the file is damaged; it is left as it is.
            FailedPrecondition: it belongs to another program or a newer version, was moved, or can't be written.
            ResourceExhausted: the disk is full.
            Unavailable: another program holds it.
        """
        connection = open_store(path)
        with STORE.translated("open metadata store", path, files=True):
            prune(connection, now_ns(), kept_changes)
            begin_log(connection)
            water = look(connection, path)
            self._store_id, self._era = connection.execute("SELECT id, era FROM store").fetchone()
            body = SqliteBody(connection, path, kept_changes, water)
        self._on_change: list[Callable[[], None]] = []
        self._readers = Readers(path)
        self._batches = Batches(body, f"metadata store {path}", observe)

    @property
    def store_id(self) -> str:
        """See `hythe_metadata.records.RecordStore.store_id`."""
        return str(self._store_id)

    @property
    def era(self) -> int:
        """See `hythe_metadata.records.RecordStore.era`."""
        return int(self._era)

    async def change(self, work: Work[T]) -> T:
        """See `hythe_metadata.records.RecordStore.change`."""
        done = await self._batches.run(work)
        if done.wrote:
            for callback in self._on_change:
                callback()
        return done.result

    async def read(self, read: Read[T]) -> T:
        """See `hythe_metadata.records.RecordStore.read`."""
        return await self._readers.run(lambda connection: read(SqliteView(connection)))

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_change`."""
        self._on_change.append(callback)

    def on_turn(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_turn`; another process can't open the file."""

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`."""
        return await self._readers.run(lambda connection: outbox_table.outgoing(connection, after, limit))

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""
        self._batches.forget_sent(sequences)

    async def close(self) -> None:
        """See `hythe_metadata.records.RecordStore.close`."""
        await self._readers.close()
        await self._batches.close()
