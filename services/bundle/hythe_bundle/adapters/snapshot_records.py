"""Rows of snapshots: what may be added, found and removed, inside the database's transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from hythe.clock import now_rfc3339
from hythe.errors import AlreadyExists, FailedPrecondition, NotFound
from hythe.ports.snapshots import NO_PARENT, Kind, Snapshot
from hythe_bundle.adapters.database import Database

PAGE = 100
_SELECT = """
SELECT s.id, s.name, s.kind, COALESCE(p.name, ''), s.created_at
FROM snapshots AS s LEFT JOIN snapshots AS p ON p.id = s.parent
"""
_CHAIN = """
WITH RECURSIVE chain (id, parent, depth) AS (
    SELECT id, IIF(opaque, NULL, parent), 0 FROM snapshots WHERE name = ?
    UNION ALL
    SELECT s.id, IIF(s.opaque, NULL, s.parent), depth + 1 FROM snapshots AS s JOIN chain ON s.id = chain.parent
)
SELECT id FROM chain ORDER BY depth
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A snapshot and the number of its directory."""

    number: int
    snapshot: Snapshot


class SnapshotRecords:
    """The table of snapshots."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            NotFound: there is none.
        """
        rows = self._database.read(f"{_SELECT} WHERE s.name = ?", (name,))
        if not rows:
            raise not_found(name)
        return self._row(rows[0])

    def page(self, after: int) -> list[Row]:
        """Return up to 100 rows whose number comes after `after`, by number."""
        found = self._database.read(f"{_SELECT} WHERE s.id > ? ORDER BY s.id LIMIT {PAGE}", (after,))
        return [self._row(row) for row in found]

    def _row(self, row: tuple[int, str, Kind, str, str]) -> Row:
        number, name, kind, parent, created_at = row
        labels = dict(self._database.read("SELECT key, value FROM labels WHERE snapshot = ?", (number,)))
        return Row(number, Snapshot(name, kind, parent, created_at, labels))

    def chain(self, name: str) -> tuple[int, ...]:
        """Return the numbers of what is stacked for a snapshot, from the top down; empty if there is none of that name.

        It ends with a layer that hides all below it.
        """
        return tuple(row[0] for row in self._database.read(_CHAIN, (name,)))

    def greatest_number(self) -> int:
        """Return the greatest number ever given."""
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'")
        return int(rows[0][0]) if rows else 0


def add(
    connection: sqlite3.Connection,
    number: int,
    name: str,
    kind: Kind,
    parent: str,
    labels: Mapping[str, str] | None,
    *,
    opaque: bool = False,
) -> None:
    """Insert a row; part of a transaction. An `opaque` layer hides all that lies below it.

    Raises:
        AlreadyExists: there is a snapshot of that name.
        NotFound: there is no committed snapshot `parent`.
    """
    if connection.execute("SELECT 1 FROM snapshots WHERE name = ?", (name,)).fetchone():
        raise AlreadyExists(f"add snapshot {name}: it exists", details={"kind": "snapshot"})
    below = None
    if parent != NO_PARENT:
        below = connection.execute(
            "SELECT id FROM snapshots WHERE name = ? AND kind = 'committed'", (parent,)
        ).fetchone()
        if below is None:
            raise not_found(parent)
    connection.execute(
        "INSERT INTO snapshots (id, name, kind, parent, opaque, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (number, name, kind, below and below[0], opaque, now_rfc3339()),
    )
    if labels:
        rows = [(number, key, value) for key, value in labels.items()]
        connection.executemany("INSERT INTO labels (snapshot, key, value) VALUES (?, ?, ?)", rows)


def delete(connection: sqlite3.Connection, name: str) -> int:
    """Delete a row and return its number; part of a transaction.

    Raises:
        NotFound: there is none of that name.
        FailedPrecondition: others lie on top of it.
    """
    found = connection.execute("SELECT id FROM snapshots WHERE name = ?", (name,)).fetchone()
    if found is None:
        raise not_found(name)
    above = connection.execute("SELECT name FROM snapshots WHERE parent = ? LIMIT 1", found).fetchone()
    if above is not None:
        raise FailedPrecondition(f"remove snapshot {name}: {above[0]} lies on top of it", details={"kind": "snapshot"})
    connection.execute("DELETE FROM snapshots WHERE id = ?", found)
    return int(found[0])


def undo(connection: sqlite3.Connection, number: int) -> None:
    """Delete the row of that number if there is one; part of a transaction."""
    connection.execute("DELETE FROM snapshots WHERE id = ?", (number,))


def not_found(name: str) -> NotFound:
    """Return the error for a snapshot that isn't there."""
    return NotFound(f"find snapshot {name}: there is none", details={"kind": "snapshot"})
