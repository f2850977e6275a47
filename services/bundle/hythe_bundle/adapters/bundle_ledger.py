"""Which bundle directories Hythe made, and what it is just making, in the snapshots' database."""

from __future__ import annotations

import sqlite3

from hythe_bundle.adapters.database import Database
from hythe_bundle.ledger import Created

_TABLES = (
    """CREATE TABLE IF NOT EXISTS bundles (
        path TEXT PRIMARY KEY,
        namespace TEXT NOT NULL,
        inode INTEGER NOT NULL,
        image TEXT NOT NULL,
        digest TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS unfinished (partial TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
_COLUMNS = "path, namespace, inode, image, digest, created_at"


class BundleLedger:
    """Keeps the promises of `hythe_bundle.ledger.Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Make the tables where they are missing; called once, before all else."""

        def work(connection: sqlite3.Connection) -> None:
            for table in _TABLES:
                connection.execute(table)

        await self._database.write(work)

    async def begin(self, partial: str, path: str) -> None:
        """See `Ledger.begin`."""
        await self._write("INSERT INTO unfinished (partial, path) VALUES (?, ?)", partial, path)

    async def end(self, partial: str) -> None:
        """See `Ledger.end`."""
        await self._write("DELETE FROM unfinished WHERE partial = ?", partial, durable_commit=False)

    def unfinished(self) -> list[tuple[str, str]]:
        """See `Ledger.unfinished`."""
        return [(partial, path) for partial, path in self._database.read("SELECT partial, path FROM unfinished")]

    async def put(self, created: Created) -> None:
        """See `Ledger.put`."""
        await self._write(
            f"INSERT OR REPLACE INTO bundles ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            created.path,
            created.namespace,
            created.inode,
            created.image,
            created.digest,
            created.created_at,
        )

    async def forget(self, path: str, inode: int) -> None:
        """See `Ledger.forget`."""
        await self._write("DELETE FROM bundles WHERE path = ? AND inode = ?", path, inode)

    def find(self, path: str) -> Created | None:
        """See `Ledger.find`."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM bundles WHERE path = ?", (path,))
        return Created(*rows[0]) if rows else None

    def all(self, namespace: str) -> list[Created]:
        """See `Ledger.all`."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM bundles WHERE namespace = ? ORDER BY path", (namespace,))
        return [Created(*row) for row in rows]

    async def _write(self, statement: str, *values: str | int, durable_commit: bool = True) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._database.write(work, durable_commit=durable_commit)
