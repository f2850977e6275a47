"""Carries batches out on the SQLite store, in its writer's thread."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from hythe import failpoints, outbox_table
from hythe.clock import now_ns
from hythe.errors import HytheError
from hythe_metadata.adapters.batches import Done, Job
from hythe_metadata.adapters.sqlite_high_water import HighWater
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import begin_log
from hythe_metadata.adapters.sqlite_transaction import SqliteTransaction
from hythe_metadata.adapters.sqlite_upkeep import prune, trim_log

PRUNE_INTERVAL_S = 600.0
PRUNE_ON_S = 1.0
"""After this long more is deleted, where not all was: no writer waits for more than a little of it."""
TRIMS = 10
"""The log is cut so often that it never grows by more than this part."""


class SqliteBody:
    """Keeps the promises of `hythe_metadata.adapters.batches.Body` on one connection, which it closes in the end.

    Each piece of work runs in a savepoint, so one that raises is undone and the others of its batch stand; all are committed with
    one fsync. At rest the log is copied into the store's file, so that a commit on a request's path costs one.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, kept_changes: int, water: HighWater) -> None:
        self._connection = connection
        self._water = water
        self._path = path
        self._kept_changes = kept_changes
        self._revision, self._era = connection.execute("SELECT revision, era FROM store").fetchone()
        self._sent: list[int] = []
        self._prune_at = time.monotonic()
        self._trimmed_at = self._revision

    def commit(self, jobs: Sequence[Job]) -> HytheError | None:
        """See `hythe_metadata.adapters.batches.Body.commit`."""
        connection, before = self._connection, self._revision
        try:
            connection.execute("BEGIN IMMEDIATE")
            outbox_table.forget(connection, self._sent)
            for job in jobs:
                self._work(job)
            if self._revision != before:
                connection.execute("UPDATE store SET revision = ?", (self._revision,))
            if self._revision - self._trimmed_at > self._kept_changes // TRIMS:
                trim_log(connection, self._kept_changes)
                self._trimmed_at = self._revision
            failpoints.reach("metadata.commit")
            connection.execute("COMMIT")
            failpoints.reach("metadata.committed")
        except (sqlite3.Error, HytheError) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._revision = before
            if isinstance(error, HytheError):
                return error
            return STORE.translate(error, "commit to metadata store", self._path)
        self._sent.clear()
        if self._revision != before:
            self._water.note(self._era, self._revision)
        if time.monotonic() >= self._prune_at + PRUNE_ON_S:  # there was no rest: changes come all the time
            with contextlib.suppress(sqlite3.Error):  # it is met again at the next commit
                self._prune()
        return None

    def forget_sent(self, sequences: Sequence[int]) -> None:
        """See `hythe_metadata.adapters.batches.Body.forget_sent`."""
        self._sent.extend(sequences)

    def rest(self) -> HytheError | None:
        """See `hythe_metadata.adapters.batches.Body.rest`."""
        error = self.commit([]) if self._sent else None
        try:
            self._prune()
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            begin_log(self._connection)
        except sqlite3.Error as raised:
            error = STORE.translate(raised, "bring metadata store to rest", self._path)
        return error

    def close(self) -> None:
        """See `hythe_metadata.adapters.batches.Body.close`."""
        self._connection.close()
        self._water.close()

    def _prune(self) -> None:
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_INTERVAL_S
            if prune(self._connection, now_ns(), self._kept_changes):
                self._prune_at = time.monotonic() + PRUNE_ON_S

    def _work(self, job: Job) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT job")
        transaction = SqliteTransaction(connection, self._revision + 1, self._era)
        try:
            result = job.work(transaction)
            job.outcome = Done(result, transaction.wrote)
            if transaction.wrote:
                self._revision += 1
        except Exception as error:  # it belongs to the caller who awaits this job, as at any endpoint
            if not connection.in_transaction:
                raise  # SQLite has undone the whole transaction by itself
            connection.execute("ROLLBACK TO job")
            job.outcome = error
            if isinstance(error, sqlite3.Error):
                job.outcome = STORE.translate(error, "change metadata store", self._path)
        connection.execute("RELEASE job")
