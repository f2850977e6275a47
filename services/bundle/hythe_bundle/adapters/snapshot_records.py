"""Rows of snapshots: what is found of them, read in the event loop's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from hythe.ports.snapshots import LIST_THEM, NO_PARENT, Snapshot, Usage
from hythe_bundle.adapters.database import Database

PAGE = 100
_SELECT = """
SELECT s.id, s.name, s.kind, COALESCE(p.name, ''), s.created_at, s.updated_at
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
    """A snapshot and the number of its place."""

    number: int
    snapshot: Snapshot


class SnapshotRecords:
    """The table of snapshots; `snapshot_changes` has what changes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chains: dict[str, tuple[int, ...]] = {}

    def find(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            NotFound: there is none.
        """
        rows = self._rows("WHERE s.name = ?", name)
        if not rows:
            raise not_found(name)
        return rows[0]

    def page(self, after: int) -> list[Row]:
        """Return up to 100 rows whose number comes after `after`, by number."""
        return self._rows(f"WHERE s.id > ? ORDER BY s.id LIMIT {PAGE}", after)

    def with_places(self) -> list[Row]:
        """Return the rows of all that can be written to, and of the views of nothing."""
        return self._rows("WHERE s.kind = 'active' OR (s.kind = 'view' AND s.parent IS NULL)")

    def _rows(self, condition: str, *values: object) -> list[Row]:
        found = self._database.read(f"{_SELECT} {condition}", values)
        labels: dict[int, dict[str, str]] = {row[0]: {} for row in found}
        marks = ",".join("?" * len(labels))
        texts = f"SELECT snapshot, key, value FROM labels WHERE snapshot IN ({marks})"
        for number, key, value in self._database.read(texts, tuple(labels)):
            labels[number][key] = value
        return [_row(row, labels[row[0]]) for row in found]

    def stack(self, row: Row) -> tuple[int, ...]:
        """Return the numbers of what a snapshot shows, from the top down: its own, but for a view's, and those below it."""
        return self.below(row) if row.snapshot.kind == "view" and row.snapshot.parent else self.chain(row.snapshot.name)

    def below(self, row: Row) -> tuple[int, ...]:
        """Return the numbers of what lies below a snapshot, from the top down."""
        return self.chain(row.snapshot.parent) if row.snapshot.parent else ()

    def chain(self, name: str) -> tuple[int, ...]:
        """Return the number of a snapshot and those of what lies below it; empty if there is none of that name.

        It ends with a layer that hides all below it.
        """
        chain = self._chains.get(name)
        if chain is None:
            chain = tuple(row[0] for row in self._database.read(_CHAIN, (name,)))
            if chain:
                self._chains[name] = chain
        return chain

    def forget(self, name: str) -> None:
        """Take notice that a name stands for something else now, or for nothing."""
        self._chains.pop(name, None)

    def check_new(self, name: str, parent: str) -> tuple[int, ...]:
        """Return what lies below a snapshot that is about to be made, as `below`; said again when it is recorded.

        Raises:
            AlreadyExists: there is a snapshot of that name.
            NotFound: there is no snapshot `parent`.
            InvalidArgument: `parent` is not committed.
        """
        kinds = dict(self._database.read("SELECT name, kind FROM snapshots WHERE name IN (?, ?)", (name, parent)))
        if name in kinds:
            raise already_exists(name)
        if parent == NO_PARENT:
            return ()
        if parent not in kinds:
            raise not_found(parent)
        if kinds[parent] != "committed":
            raise not_committed(name, parent)
        return self.chain(parent)

    def check_commit(self, key: str, name: str) -> Row:
        """Return the row of the active snapshot `key` if it can be committed as `name`; said again when it is.

        Raises:
            AlreadyExists: there is a snapshot `name`.
            NotFound: there is no snapshot `key`.
            FailedPrecondition: `key` is not active.
        """
        if self._database.read("SELECT 1 FROM snapshots WHERE name = ?", (name,)):
            raise already_exists(name)
        row = self.find(key)
        if row.snapshot.kind != "active":
            raise not_active(key, row.snapshot.kind)
        return row

    def usage(self, number: int) -> Usage | None:
        """Return what was found out about a committed snapshot's size; None if that wasn't asked yet."""
        rows = self._database.read("SELECT size_bytes, inodes FROM snapshots WHERE id = ?", (number,))
        return Usage(*rows[0]) if rows and rows[0][0] is not None else None

    def numbers(self) -> set[int]:
        """Return the numbers of all snapshots."""
        return {row[0] for row in self._database.read("SELECT id FROM snapshots")}

    def greatest_number(self) -> int:
        """Return the greatest number ever given to a snapshot that was recorded."""
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'")
        return int(rows[0][0]) if rows else 0

    def about(self, key: str) -> str:
        """Return a fact about the whole database; empty if there is none of that key."""
        rows = self._database.read("SELECT value FROM about WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""


def _row(row: tuple[Any, ...], labels: dict[str, str]) -> Row:
    number, name, kind, parent, created_at, updated_at = row
    return Row(number, Snapshot(name, kind, parent, created_at, labels, updated_at))


def not_found(name: str) -> NotFound:
    """Return the error for a snapshot that isn't there."""
    return NotFound(
        f"find snapshot {name}: there is none",
        next_step=LIST_THEM,
        details={"kind": "snapshot"},
    )


def already_exists(name: str) -> AlreadyExists:
    """Return the error for a name that is taken."""
    return AlreadyExists(f"add snapshot {name}: it exists", details={"kind": "snapshot"})


def not_active(key: str, kind: str) -> FailedPrecondition:
    """Return the error for a snapshot that can't be committed."""
    return FailedPrecondition(f"commit snapshot {key}: it is not active but {kind}", details={"kind": "snapshot"})


def not_committed(name: str, parent: str) -> InvalidArgument:
    """Return the error for a parent that may still change."""
    return InvalidArgument(
        f"add snapshot {name}: {parent} is not committed, so nothing can lie on it",
        next_step=f"commit {parent} first",
        details={"kind": "snapshot"},
    )
