"""What is stored in SQLite, to those who ask: every question is a lookup in an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from hythe.clock import now_rfc3339
from hythe.errors import OutOfRange
from hythe_metadata.changes import Moment
from hythe_metadata.records import Change, Edge, Key, Stored

CHUNK = 500
_AFTER_ALL = "\U0010ffff"


class SqliteView:
    """Keeps the promises of `hythe_metadata.records.View` on a connection that is in a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        revision, era = self._connection.execute("SELECT revision, era FROM store").fetchone()
        return Moment(now_rfc3339(), revision + 1, era)

    def get(self, key: Key) -> Stored | None:
        """See `hythe_metadata.records.View.get`."""
        row = self._connection.execute(
            "SELECT revision, body, bulk FROM records WHERE kind = ? AND namespace = ? AND name = ?",
            (key.kind, key.namespace, key.name),
        ).fetchone()
        return Stored(key, *row) if row else None

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """See `hythe_metadata.records.View.named`."""
        row = self._connection.execute(
            "SELECT kind, namespace, name FROM uniques WHERE idx = ? AND space = ? AND value = ?",
            (index, namespace, value),
        ).fetchone()
        return Key(*row) if row else None

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """See `hythe_metadata.records.View.scan`; read in pieces, so that records may be changed meanwhile."""
        space, _, name = after.partition(" ") if namespace is None else (namespace, "", after)
        if namespace is None:
            where, fixed = "(namespace, name) > (?, ?)", tuple[str, ...]()
        else:
            where, fixed = "namespace = ? AND name > ? AND name >= ? AND name < ?", (prefix, prefix + _AFTER_ALL)
        select = (
            f"SELECT namespace, name, revision, body, bulk FROM records WHERE kind = ? AND {where}"
            f" ORDER BY namespace, name LIMIT {CHUNK}"
        )
        while True:
            rows = self._connection.execute(select, (kind, space, name, *fixed)).fetchall()
            for row in rows:
                if namespace is not None or row[1].startswith(prefix):
                    yield Stored(Key(kind, row[0], row[1]), row[2], row[3], row[4])
            if len(rows) < CHUNK:
                return
            space, name = rows[-1][:2]

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """See `hythe_metadata.records.View.edges`."""
        found = self._connection.execute("SELECT kind, namespace, name, to_kind, to_name, via FROM edges")
        key = Key("", "", "")
        while rows := found.fetchmany(CHUNK):
            for kind, namespace, name, to_kind, to_name, via in rows:
                if name != key.name or namespace != key.namespace or kind != key.kind:
                    key = Key(kind, namespace, name)  # one for all references of a record, which come together
                yield key, Edge(to_kind, to_name, via)

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """See `hythe_metadata.records.View.occupants`."""
        return dict(
            self._connection.execute(
                "SELECT kind, count FROM occupants WHERE namespace = ? AND count > 0", (namespace,)
            )
        )

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `hythe_metadata.records.View.changes`."""
        (dropped,) = self._connection.execute("SELECT log_dropped FROM store").fetchone()
        if after < dropped:
            raise OutOfRange(
                f"read changes after revision {after}: the log begins after {dropped}",
                next_step="read everything again, then watch from there",
                details={"oldest": str(dropped)},
            )
        select = "SELECT revision, kind, namespace, name, deleted FROM changes WHERE"
        rows = self._connection.execute(f"{select} revision > ? ORDER BY revision LIMIT ?", (after, limit)).fetchall()
        if len(rows) == limit:
            last = rows[-1][0]
            whole = self._connection.execute(f"{select} revision = ?", (last,)).fetchall()
            rows = [*(row for row in rows if row[0] != last), *whole]
        return [Change(row[0], Key(*row[1:4]), bool(row[4])) for row in rows]
