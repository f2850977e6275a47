"""The bundle service's SQLite database: one writer thread that commits what waits together, and reads beside it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hythe import durable
from hythe.clock import now_rfc3339
from hythe.errors import Unavailable
from hythe_bundle.adapters import database_schema, disk_errors

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
_SYNCED = "INSERT OR REPLACE INTO about VALUES ('synced_at', ?)"


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Work[T]
    durable: bool
    settle: Callable[[T | None, BaseException | None], None]


class Database:
    """The database at one path, held by this process alone.

    Attributes:
        fresh: whether this start made it: nothing can be concluded from a record that is missing then.
    """

    def __init__(self, path: Path) -> None:
        """Open it, or make it where there is none.

        Raises:
            FailedPrecondition: a newer Hythe made it.
            HytheError: see `disk_errors.of_sqlite`.
        """
        self.path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._sync_moved = threading.Lock()
        self._is_behind = False
        self._waiting_for_sync: list[Callable[[], object]] = []
        self._on_change: list[Callable[[], object]] = []
        try:
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA foreign_keys = ON")
            self._synchronous(full=True)
            self.fresh = database_schema.ensure(self._writer, path)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise disk_errors.of_sqlite(error, "open snapshot records", path) from error
        self._thread = threading.Thread(target=self._run, name="snapshot-records", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)

    def read(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a short query. Call it in the event loop's thread: it takes microseconds, a thread more.

        Raises:
            HytheError: see `disk_errors.of_sqlite`.
        """
        return self.look(lambda connection: connection.execute(statement, values).fetchall())

    def look(self, work: Work[T]) -> T:
        """Return what `work` reads; see `read`."""
        try:
            return work(self._reader)
        except sqlite3.Error as error:
            raise disk_errors.of_sqlite(error, "read snapshot records", self.path) from error

    async def read_beside(self, work: Work[T]) -> T:
        """As `look`, in a thread with a connection of its own: for what takes longer than others may wait."""

        def look() -> T:
            with closing(self._connect()) as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(look)
        except sqlite3.Error as error:
            raise disk_errors.of_sqlite(error, "read snapshot records", self.path) from error

    async def write(self, work: Work[T], *, durable_commit: bool = True) -> T:
        """Run `work` in the writer's thread inside a transaction and return its result once that is committed.

        What waits at the same time shares one commit. An error of `work` undoes only its own changes. The commit's
        fsync is counted on the caller's span. A cancelled caller still waits for the end: the change may be committed.

        Args:
            work: called with the connection; must not commit.
            durable_commit: without it, a crash of the machine may undo the change.

        Raises:
            HytheError: raised by `work`, or see `disk_errors.of_sqlite`.
        """
        if self._closed:
            raise Unavailable("write snapshot records: the service is stopping", service="bundle")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, problem: BaseException | None) -> None:
            loop.call_soon_threadsafe(_settle, future, result, problem)

        self._jobs.put(_Job(work, durable_commit, settle))
        try:
            result = await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        if durable_commit:
            durable.count_sync()
        return result

    async def settle(self, within_s: float) -> None:
        """Return when all that was committed before survives a crash of the machine.

        That is with the next durable commit of somebody else, or after `within_s` seconds by one of its own.

        Raises:
            HytheError: see `write`.
        """
        loop = asyncio.get_running_loop()
        synced = asyncio.Event()
        with self._sync_moved:
            if not self._is_behind:
                return
            self._waiting_for_sync.append(lambda: loop.call_soon_threadsafe(synced.set))
        try:
            async with asyncio.timeout(within_s):
                await synced.wait()
        except TimeoutError:
            await self.write(lambda connection: connection.execute(_SYNCED, (now_rfc3339(),)))

    def on_change(self, callback: Callable[[], object]) -> None:
        """Have `callback` called after each commit that changed something, in the writer's thread."""
        self._on_change.append(callback)

    def write_at_start(self, work: Work[T]) -> T:
        """As `write`, durable and blocking, for those who start before there is an event loop."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def settle(result: T | None, problem: BaseException | None) -> None:
            _settle(done, result, problem)

        self._jobs.put(_Job(work, True, settle))
        found: T = done.result()
        return found

    def close(self) -> None:
        """Finish what waits, then close. Blocks for as long as that takes."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            jobs: list[_Job[Any]] = []
            item = self._jobs.get()
            while item is not None:
                jobs.append(item)
                try:
                    item = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                open_for_more = False
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        outcomes: list[tuple[_Job[Any], Any, BaseException | None]] = []
        full, changes = any(job.durable for job in jobs), self._writer.total_changes
        try:
            self._synchronous(full=full)
            self._writer.execute("BEGIN IMMEDIATE")
            for job in jobs:
                outcomes.append((job, *self._attempt(job)))
            self._writer.execute("COMMIT")
            if self._writer.total_changes != changes:
                self._note_commit(durable_commit=full)
        except sqlite3.Error as error:
            failure = disk_errors.of_sqlite(error, "write snapshot records", self.path)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            outcomes = [(job, None, failure) for job in jobs]
        for job, result, problem in outcomes:
            job.settle(result, problem)

    def _note_commit(self, *, durable_commit: bool) -> None:
        """Tell those who wait for it that all changes until now are on the disk; or know that some may not be."""
        with self._sync_moved:
            self._is_behind = not durable_commit
            waiting: list[Callable[[], object]] = []
            if durable_commit:
                waiting, self._waiting_for_sync = self._waiting_for_sync, waiting
        for tell in (*waiting, *self._on_change):
            tell()

    def _attempt(self, job: _Job[Any]) -> tuple[Any, BaseException | None]:
        """Run one job in a savepoint of its own; return its result or its error.

        Raises:
            sqlite3.OperationalError: the disk; nobody's work can be committed.
        """
        self._writer.execute("SAVEPOINT job")
        try:
            result, problem = job.work(self._writer), None
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 (handed to the one who asked; the thread goes on for the others)
            self._writer.execute("ROLLBACK TO job")
            result, problem = None, error
        self._writer.execute("RELEASE job")
        return result, problem

    def _synchronous(self, *, full: bool) -> None:
        self._writer.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")


def _settle(
    future: asyncio.Future[Any] | concurrent.futures.Future[Any], result: object, problem: BaseException | None
) -> None:
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
