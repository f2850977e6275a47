"""What the SQLite store forgets when it has time: records that may go, old numbers of events, the old end of the log."""

from __future__ import annotations

import sqlite3

from hythe import outbox_table

ROWS_AT_ONCE = 2000


def prune(connection: sqlite3.Connection, now_ns: int, kept_changes: int) -> bool:
    """Delete, in one transaction of at most `ROWS_AT_ONCE` rows a table, what is old enough; tell whether there may be more."""
    old = "SELECT kind, namespace, name FROM records WHERE forget_ns > 0 AND forget_ns < ? ORDER BY forget_ns LIMIT ?"
    connection.execute("BEGIN IMMEDIATE")
    try:
        places = connection.execute(old, (now_ns, ROWS_AT_ONCE)).fetchall()
        for table in ("records", "uniques", "edges"):
            connection.executemany(f"DELETE FROM {table} WHERE kind = ? AND namespace = ? AND name = ?", places)
        connection.executemany(
            "UPDATE occupants SET count = count - 1 WHERE kind = ? AND namespace = ?", [place[:2] for place in places]
        )
        numbers = outbox_table.prune(connection, now_ns, ROWS_AT_ONCE)
        trim_log(connection, kept_changes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return ROWS_AT_ONCE in (len(places), numbers)


def trim_log(connection: sqlite3.Connection, kept: int) -> None:
    """Drop whole revisions from the old end of the log, so that at least `kept` entries stay."""
    row = connection.execute("SELECT revision FROM changes ORDER BY revision DESC LIMIT 1 OFFSET ?", (kept,)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM changes WHERE revision <= ?", row)
    connection.execute("UPDATE store SET log_dropped = ?", row)
