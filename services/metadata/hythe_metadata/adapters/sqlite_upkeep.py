"""What the SQLite store forgets when it has time: records that went, results nobody will ask for, ids of long ago."""

from __future__ import annotations

import sqlite3

from hythe_metadata.changes import REQUEST_MEMORY_S, TOMBSTONE_S

ROWS_AT_ONCE = 2000


def renew_leases(connection: sqlite3.Connection, boottime_ms: int) -> None:
    """Extend each lease in full: while the store was away nobody could settle or renew, and the boot may be another."""
    connection.execute(
        "UPDATE containers SET lease_until_ms = ? + CAST(lease_s * 1000 AS INTEGER) WHERE phase = 'creating'",
        (boottime_ms,),
    )


def prune(connection: sqlite3.Connection, now_ns: int) -> None:
    """Delete, in one transaction of at most `ROWS_AT_ONCE` rows a table, what is old enough.

    Records being removed leave their id behind as gone; that is forgotten when no repetition of a request can come.
    """
    removed_before = now_ns - int(TOMBSTONE_S * 1e9)
    remembered_from = now_ns - int(REQUEST_MEMORY_S * 1e9)
    old = "SELECT id FROM containers WHERE phase = 'removing' AND changed_ns < ? ORDER BY changed_ns LIMIT ?"
    long_gone = "SELECT id FROM gone WHERE changed_ns < ? ORDER BY changed_ns LIMIT ?"
    forgotten = "SELECT namespace, caller, request_id FROM requests WHERE changed_ns < ? ORDER BY changed_ns LIMIT ?"
    connection.execute("BEGIN IMMEDIATE")
    try:
        ids = [row[0] for row in connection.execute(old, (removed_before, ROWS_AT_ONCE))]
        connection.executemany("INSERT OR REPLACE INTO gone VALUES (?, ?)", [(id_, now_ns) for id_ in ids])
        connection.executemany("DELETE FROM containers WHERE id = ?", [(id_,) for id_ in ids])
        ids = [row[0] for row in connection.execute(long_gone, (remembered_from, ROWS_AT_ONCE))]
        connection.executemany("DELETE FROM gone WHERE id = ?", [(id_,) for id_ in ids])
        connection.executemany(
            "DELETE FROM event_numbers WHERE noun = 'container' AND object_id = ?", [(id_,) for id_ in ids]
        )
        keys = connection.execute(forgotten, (remembered_from, ROWS_AT_ONCE)).fetchall()
        connection.executemany("DELETE FROM requests WHERE namespace = ? AND caller = ? AND request_id = ?", keys)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
