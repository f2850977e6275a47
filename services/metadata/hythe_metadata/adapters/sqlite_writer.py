"""The one thread that writes to the SQLite store: what waits together is committed together, with one fsync."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hythe import failpoints, tracing
from hythe.durable import count_sync
from hythe.errors import DataLoss, HytheError, ResourceExhausted, Unavailable
from hythe_metadata.adapters.sqlite_errors import translate
from hythe_metadata.adapters.sqlite_schema import begin_log

MAX_BATCH = 256
REST_S = 1.0

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Observe = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    result: T
    wrote: bool


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[_Done[Any]]
    loop: asyncio.AbstractEventLoop
    outcome: _Done[Any] | Exception | None = None

    def answer(self) -> None:
        if self.future.done():
            return
        if isinstance(self.outcome, Exception):
            self.future.set_exception(self.outcome)
        elif self.outcome is not None:
            self.future.set_result(self.outcome)


@dataclass(frozen=True, slots=True)
class _Later:
    work: Work[None]


class _End:
    """Nothing comes after this."""


class Writer:
    """Carries out changes one after another on one connection, in its own thread.

    Each piece of work runs in a savepoint: one that raises is undone and the others of its batch stand. All of a batch
    are answered after its commit; if that fails, none has happened. When nothing came for `REST_S` seconds, the log is
    copied into the store's file, so that a commit on a request's path costs one fsync.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, rest: Work[None], observe: Observe) -> None:
        """Start the thread.

        Args:
            connection: taken over by the thread, and closed by it.
            path: file of the store, for messages.
            rest: upkeep to be done when nothing else is.
            observe: told of each commit how many changes it had and how many seconds it took; called in the thread.
        """
        self._connection = connection
        self._path = path
        self._rest = rest
        self._observe = observe
        self._queue: queue.SimpleQueue[_Job | _Later | _End] = queue.SimpleQueue()
        self._later: list[Work[None]] = []
        self._closing = threading.Lock()
        self._closed = False
        self._broken: HytheError | None = None
        self._unrested = False
        self._thread = threading.Thread(target=self._run, name="metadata-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Carry out `work` in the next transaction and return its result when that is durable.

        `work` may run more than once, each time on what is stored then. Cancelling the wait does not undo it.

        Raises:
            Unavailable: the writer is closed, or another program holds the store.
            ResourceExhausted: the disk is full; nothing was changed.
            DataLoss: the disk failed in this or an earlier commit; nothing more is written until a restart.
            Exception: whatever `work` raises; then it has changed nothing.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), loop)
        with tracing.span("metadata.commit"):
            self._put(job)
            done: _Done[T] = await job.future
            if done.wrote:
                count_sync()
            return done.result

    def later(self, work: Work[None]) -> None:
        """Carry out `work` with the next transaction that comes anyway, or at rest; lost if the process dies before."""
        self._put(_Later(work))

    async def close(self) -> None:
        """Carry out what was accepted, bring the store to rest, close the connection."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(_End())
        await asyncio.to_thread(self._thread.join)

    def _put(self, item: _Job | _Later) -> None:
        with self._closing:
            if self._closed:
                raise Unavailable(f"write metadata store {self._path}: it is closed", service="metadata")
            self._queue.put(item)

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._next()
            if jobs:
                self._carry_out(jobs)
            elif not ended:
                self._settle()
        self._settle()
        self._connection.close()

    def _next(self) -> tuple[list[_Job], bool]:
        """Return the jobs that wait, and whether this is the end; neither when nothing came and there is work to rest."""
        jobs: list[_Job] = []
        while len(jobs) < MAX_BATCH:
            try:
                item = self._queue.get(block=not jobs, timeout=REST_S if self._unrested else None)
            except queue.Empty:
                break
            if isinstance(item, _End):
                return jobs, True
            if isinstance(item, _Later):
                self._later.append(item.work)
                self._unrested = True
            else:
                jobs.append(item)
        return jobs, False

    def _carry_out(self, jobs: list[_Job]) -> None:
        error = self._broken or self._commit(jobs)
        if isinstance(error, ResourceExhausted) and len(jobs) > 1:
            for job in jobs:  # one large change must not take the small ones of its batch down
                self._carry_out([job])
            return
        if isinstance(error, DataLoss):
            self._broken = error
        if error is not None:
            for job in jobs:
                job.outcome = copy.copy(error)
        for loop in {job.loop for job in jobs}:
            try:
                loop.call_soon_threadsafe(_answer, [job for job in jobs if job.loop is loop])
            except RuntimeError:
                _log.warning("nobody is left to hear the outcome of %d changes", len(jobs))

    def _commit(self, jobs: list[_Job]) -> HytheError | None:
        """Carry out `jobs` in one transaction; return why that failed, if it did."""
        connection = self._connection
        begun = time.monotonic()
        before = connection.total_changes
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work in self._later:
                work(connection)
            for job in jobs:
                self._work(job)
            failpoints.reach("metadata.commit")
            connection.execute("COMMIT")
            failpoints.reach("metadata.committed")
        except (sqlite3.Error, HytheError) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, HytheError):
                return error
            return translate(error, "commit to metadata store", self._path)
        self._later.clear()
        if connection.total_changes != before:
            self._unrested = True
            self._observe(len(jobs), time.monotonic() - begun)
        return None

    def _work(self, job: _Job) -> None:
        connection = self._connection
        before = connection.total_changes
        connection.execute("SAVEPOINT job")
        try:
            job.outcome = _Done(job.work(connection), connection.total_changes != before)
        except Exception as error:  # it belongs to the caller who awaits this job, as at any endpoint
            if not connection.in_transaction:
                raise  # SQLite has undone the whole transaction by itself
            connection.execute("ROLLBACK TO job")
            job.outcome = error
            if isinstance(error, sqlite3.Error):
                job.outcome = translate(error, "change metadata store", self._path)
        connection.execute("RELEASE job")

    def _settle(self) -> None:
        """Do upkeep and copy the log into the store's file; what fails here fails again, and is told, at the next commit."""
        self._unrested = False
        if self._broken is not None:
            return
        connection = self._connection
        error = self._commit([])
        try:
            self._rest(connection)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            begin_log(connection)
        except sqlite3.Error as raised:
            error = translate(raised, "bring metadata store to rest", self._path)
        self._unrested = False
        if error is not None:
            _log.warning("metadata store is not at rest: %s (%s)", error.message, error.cause)


def _answer(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()
