"""Reads of the SQLite store: in threads, each with its own connection, beside the writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hythe import tracing
from hythe.errors import Unavailable
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import connect

READERS = 2

T = TypeVar("T")


class Readers:
    """Runs reads, each on one snapshot of what is committed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._threads = ThreadPoolExecutor(READERS, "metadata-reader")

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `read` finds.

        Raises:
            Unavailable: the store is closed or held by another program.
            DataLoss: what it read is damaged.
            Exception: whatever `read` raises.
        """
        if self._closed:
            raise Unavailable(f"read metadata store {self._path}: it is closed", service="metadata")
        with tracing.span("metadata.read"):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    async def close(self) -> None:
        """Finish the reads in progress and close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        while self._connections:
            self._connections.pop().close()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with STORE.translated("read metadata store", self._path):
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, read_only=True)
            with self._lock:
                self._connections.append(connection)
        return connection
