"""Changes to the rows of snapshots; each function is part of a transaction in the database's writer thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping

from hythe.clock import now_rfc3339
from hythe.errors import FailedPrecondition
from hythe.ports.snapshots import NO_PARENT, Kind, Usage
from hythe_bundle.adapters.snapshot_records import already_exists, not_active, not_committed, not_found


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
    """Insert a row. An `opaque` layer hides all that lies below it.

    Raises:
        AlreadyExists: there is a snapshot of that name.
        NotFound: there is no snapshot `parent`.
        InvalidArgument: `parent` is not committed.
    """
    if _find(connection, name) is not None:
        raise already_exists(name)
    below = None
    if parent != NO_PARENT:
        found = _find(connection, parent)
        if found is None:
            raise not_found(parent)
        below, below_kind = found
        if below_kind != "committed":
            raise not_committed(name, parent)
    now = now_rfc3339()
    connection.execute(
        "INSERT INTO snapshots (id, name, kind, parent, opaque, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, name, kind, below, opaque, now, now),
    )
    _add_labels(connection, number, labels or {})


def commit(connection: sqlite3.Connection, key: str, name: str, labels: Mapping[str, str] | None) -> None:
    """Make the active snapshot `key` the committed snapshot `name`, with these labels alone.

    Raises:
        AlreadyExists: there is a snapshot `name`.
        NotFound: there is no snapshot `key`.
        FailedPrecondition: `key` is not active.
    """
    if _find(connection, name) is not None:
        raise already_exists(name)
    found = _find(connection, key)
    if found is None:
        raise not_found(key)
    number, kind = found
    if kind != "active":
        raise not_active(key, kind)
    now = now_rfc3339()
    connection.execute(
        "UPDATE snapshots SET name = ?, kind = 'committed', created_at = ?, updated_at = ? WHERE id = ?",
        (name, now, now, number),
    )
    connection.execute("DELETE FROM labels WHERE snapshot = ?", (number,))
    _add_labels(connection, number, labels or {})


def update(connection: sqlite3.Connection, name: str, labels: Mapping[str, str], only: Collection[str] | None) -> None:
    """Replace all labels, or those of the keys `only`; one without a value is taken away.

    Raises:
        NotFound: there is no snapshot of that name.
    """
    found = _find(connection, name)
    if found is None:
        raise not_found(name)
    number = found[0]
    if only is None:
        connection.execute("DELETE FROM labels WHERE snapshot = ?", (number,))
    else:
        keys = [(number, key) for key in only]
        connection.executemany("DELETE FROM labels WHERE snapshot = ? AND key = ?", keys)
    new = {key: value for key, value in labels.items() if value and (only is None or key in only)}
    _add_labels(connection, number, new)
    connection.execute("UPDATE snapshots SET updated_at = ? WHERE id = ?", (now_rfc3339(), number))


def delete(connection: sqlite3.Connection, name: str) -> int:
    """Delete a row, and what says that an image which ends with it is unpacked; return its number.

    Raises:
        NotFound: there is none of that name.
        FailedPrecondition: others lie on top of it.
    """
    found = _find(connection, name)
    if found is None:
        raise not_found(name)
    number = found[0]
    above = connection.execute("SELECT name FROM snapshots WHERE parent = ? LIMIT 1", (number,)).fetchone()
    if above is not None:
        raise FailedPrecondition(
            f"remove snapshot {name}: {above[0]} lies on top of it",
            next_step=f"remove {above[0]} first",
            details={"kind": "snapshot"},
        )
    connection.execute("DELETE FROM snapshots WHERE id = ?", (number,))
    connection.execute("DELETE FROM images WHERE chain_id = ?", (name,))
    return number


def undo(connection: sqlite3.Connection, number: int) -> bool:
    """Delete the row of that number; tell whether there was one."""
    return connection.execute("DELETE FROM snapshots WHERE id = ?", (number,)).rowcount > 0


def remember_usage(connection: sqlite3.Connection, number: int, usage: Usage) -> None:
    """Note what a committed snapshot takes, which never changes."""
    connection.execute(
        "UPDATE snapshots SET size_bytes = ?, inodes = ? WHERE id = ? AND kind = 'committed'",
        (usage.size_bytes, usage.inodes, number),
    )


def set_about(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a fact about the whole database."""
    connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))


def _find(connection: sqlite3.Connection, name: str) -> tuple[int, str] | None:
    """Return number and kind of a snapshot."""
    found = connection.execute("SELECT id, kind FROM snapshots WHERE name = ?", (name,)).fetchone()
    return None if found is None else (int(found[0]), str(found[1]))


def _add_labels(connection: sqlite3.Connection, number: int, labels: Mapping[str, str]) -> None:
    rows = [(number, key, value) for key, value in labels.items()]
    connection.executemany("INSERT INTO labels (snapshot, key, value) VALUES (?, ?, ?)", rows)
