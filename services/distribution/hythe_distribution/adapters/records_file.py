"""One SQLite file of records, facts and events, for several threads: who reads it and who changes it, and when."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.durable import count_sync
from hythe.errors import DataLoss
from hythe_distribution.adapters.records_schema import RECORDS, open_records


class RecordsFile:
    """The file and the one connection to it; one process owns it."""

    def __init__(self, path: Path, *, virgin: bool = False) -> None:
        """Open the file at `path`; see `hythe_distribution.adapters.records_schema.open_records`."""
        self._path = path
        self._lock = threading.Lock()
        self._connection = open_records(path, virgin=virgin)
        self._on_change: list[Callable[[], object]] = []

    def on_change(self, callback: Callable[[], object]) -> None:
        """Have `callback` called after each durable change, in the thread that made it."""
        self._on_change.append(callback)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in a block, under which nobody changes anything."""
        with self._lock, RECORDS.translated("read content records", self._path):
            yield self._connection

    @contextmanager
    def changing(self, step: str) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction, which is durable when the block is left, or never was."""
        with self._lock, RECORDS.translated(f"{step} content records", self._path):
            before = self._connection.total_changes
            with self._transaction():
                yield self._connection
            changed = self._connection.total_changes != before
            if changed:
                count_sync()
        if changed:
            for callback in self._on_change:
                callback()

    @contextmanager
    def tidying(self, step: str) -> Iterator[sqlite3.Connection]:
        """As `changing`, but a power loss may undo it, nobody is told of it, and it waits for no disk."""
        with self._lock, RECORDS.translated(f"{step} content records", self._path):
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._transaction():
                    yield self._connection
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")

    def damaged(self, cause: str) -> DataLoss:
        """Return the error for what was read from the file and isn't what was written."""
        return RECORDS.damaged(f"read {self._path}", self._path, cause)

    def close(self) -> None:
        """Give the file back."""
        with self._lock, RECORDS.translated("close content records", self._path):
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has rolled back itself where the disk was full
                self._connection.execute("ROLLBACK")
            raise
