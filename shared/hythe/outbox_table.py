"""An outbox of events in SQLite, beside what they tell of: both are written in one transaction.

Every function works on the caller's connection, in the caller's transaction, and raises what `sqlite3` raises.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from hythe.ports.events import OutgoingEvent

TABLES = """
CREATE TABLE event_numbers (
    namespace TEXT NOT NULL,
    noun TEXT NOT NULL,
    object_id TEXT NOT NULL,
    last INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    PRIMARY KEY (namespace, noun, object_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_numbers_by_age ON event_numbers (changed_ns);

CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    noun TEXT NOT NULL,
    object_id TEXT NOT NULL,
    past TEXT NOT NULL,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    time TEXT NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    attributes TEXT NOT NULL
) STRICT;
"""
KEEP_NUMBERS_S = 14 * 86_400
"""How long a number is remembered after an object's last event: longer than the stream keeps any event."""

_COLUMNS = "namespace, noun, object_id, past, topic, number, time, caller, request_id, trace_id, attributes"


def store(
    connection: sqlite3.Connection,
    now_ns: int,
    *,
    namespace: str,
    noun: str,
    object_id: str,
    past: str,
    topic: str,
    time: str,
    attributes: Mapping[str, str],
    caller: str = "",
    request_id: str = "",
    trace_id: str = "",
) -> int:
    """Number an event of its object and put it into the outbox; return its number."""
    (number,) = connection.execute(
        "INSERT INTO event_numbers VALUES (?, ?, ?, 1, ?) ON CONFLICT (namespace, noun, object_id)"
        " DO UPDATE SET last = last + 1, changed_ns = excluded.changed_ns RETURNING last",
        (namespace, noun, object_id, now_ns),
    ).fetchone()
    texts = (time, caller, request_id, trace_id, json.dumps(dict(attributes), separators=(",", ":")))
    connection.execute(
        f"INSERT INTO outbox ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (namespace, noun, object_id, past, topic, number, *texts),
    )
    return int(number)


def outgoing(connection: sqlite3.Connection, after: int, limit: int) -> list[OutgoingEvent]:
    """Return the oldest events in the outbox beyond `after`."""
    found = connection.execute(
        f"SELECT sequence, {_COLUMNS} FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
    )
    return [OutgoingEvent(*(*row[:11], json.loads(row[11]))) for row in found]


def forget(connection: sqlite3.Connection, sequences: Sequence[int]) -> None:
    """Delete events from the outbox."""
    connection.executemany("DELETE FROM outbox WHERE sequence = ?", [(sequence,) for sequence in sequences])


def prune(connection: sqlite3.Connection, now_ns: int, most: int) -> int:
    """Forget the numbers of at most `most` objects of which nothing was told for `KEEP_NUMBERS_S` and nothing waits.

    Return how many these were.
    """
    return connection.execute(
        """
        DELETE FROM event_numbers WHERE (namespace, noun, object_id) IN (
            SELECT n.namespace, n.noun, n.object_id FROM event_numbers AS n
            LEFT JOIN outbox AS o USING (namespace, noun, object_id)
            WHERE n.changed_ns < ? AND o.sequence IS NULL ORDER BY n.changed_ns LIMIT ?
        )
        """,
        (now_ns - KEEP_NUMBERS_S * 1_000_000_000, most),
    ).rowcount
