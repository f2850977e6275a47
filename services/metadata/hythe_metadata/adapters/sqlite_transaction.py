"""A transaction of the SQLite store: a piece of work inside the writer's own transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from hythe import outbox_table
from hythe.clock import now_ns, now_rfc3339
from hythe.ports.metadata import Origin
from hythe_metadata.adapters.sqlite_view import SqliteView
from hythe_metadata.changes import Happening, Moment
from hythe_metadata.overlay import check_free, check_size, index_keys
from hythe_metadata.records import INTERNAL_KINDS, Edge, Key

HAS_UNIQUE, HAS_EDGES = 1, 2


class SqliteTransaction(SqliteView):
    """Keeps the promises of `hythe_metadata.records.Transaction`; the caller has opened a savepoint.

    Attributes:
        wrote: something was changed.
    """

    def __init__(self, connection: sqlite3.Connection, revision: int, era: int) -> None:
        """Begin a piece of work whose changes will have `revision`."""
        super().__init__(connection)
        self._moment = Moment(now_rfc3339(), revision, era)
        self.wrote = False

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        return self._moment

    def put(
        self,
        key: Key,
        body: str,
        *,
        bulk: str = "",
        unique: Mapping[str, str] | None = None,
        everywhere: Mapping[str, str] | None = None,
        edges: Iterable[Edge] = (),
        keep_s: float = 0.0,
    ) -> None:
        """See `hythe_metadata.records.Transaction.put`."""
        check_size(key, body, bulk)
        self.wrote = True
        execute, place = self._connection.execute, (key.kind, key.namespace, key.name)
        entries, edges = index_keys(key, unique, everywhere), tuple(edges)
        had = self._has(key)
        if entries or (had or 0) & HAS_UNIQUE:
            for entry in entries:
                check_free(entry, key, self.named(*entry))
            execute("DELETE FROM uniques WHERE kind = ? AND namespace = ? AND name = ?", place)
            for entry in entries:
                execute("INSERT INTO uniques VALUES (?, ?, ?, ?, ?, ?)", (*entry, *place))
        if edges or (had or 0) & HAS_EDGES:
            self._replace_edges(key, frozenset(edges))
        has = (HAS_UNIQUE if entries else 0) | (HAS_EDGES if edges else 0)
        forget_ns = now_ns() + int(keep_s * 1e9) if keep_s else 0
        execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision,"
            " forget_ns = excluded.forget_ns, has = excluded.has, body = excluded.body, bulk = excluded.bulk",
            (*place, self._moment.revision, forget_ns, has, body, bulk),
        )
        self._note(key, deleted=False)
        if had is None:
            self._count(key, 1)

    def delete(self, key: Key) -> None:
        """See `hythe_metadata.records.Transaction.delete`."""
        had = self._has(key)
        if had is None:
            return
        self.wrote = True
        execute, place = self._connection.execute, (key.kind, key.namespace, key.name)
        execute("DELETE FROM records WHERE kind = ? AND namespace = ? AND name = ?", place)
        if had & HAS_UNIQUE:
            execute("DELETE FROM uniques WHERE kind = ? AND namespace = ? AND name = ?", place)
        if had & HAS_EDGES:
            execute("DELETE FROM edges WHERE kind = ? AND namespace = ? AND name = ?", place)
        self._note(key, deleted=True)
        self._count(key, -1)

    def emit(self, origin: Origin, happening: Happening) -> None:
        """See `hythe_metadata.records.Transaction.emit`."""
        self.wrote = True
        outbox_table.store(
            self._connection,
            now_ns(),
            namespace=origin.namespace,
            noun=happening.noun,
            object_id=happening.object_id,
            past=happening.past,
            topic=happening.topic,
            time=self._moment.time,
            attributes=happening.attributes,
            caller=origin.caller,
            request_id=origin.request_id,
            trace_id=origin.trace_id,
        )

    def _has(self, key: Key) -> int | None:
        row = self._connection.execute(
            "SELECT has FROM records WHERE kind = ? AND namespace = ? AND name = ?", (key.kind, key.namespace, key.name)
        ).fetchone()
        return int(row[0]) if row else None

    def _replace_edges(self, key: Key, edges: frozenset[Edge]) -> None:
        execute, place = self._connection.executemany, (key.kind, key.namespace, key.name)
        found = self._connection.execute(
            "SELECT to_kind, to_name, via FROM edges WHERE kind = ? AND namespace = ? AND name = ?", place
        )
        before = {Edge(*row) for row in found}
        execute(
            "DELETE FROM edges WHERE kind = ? AND namespace = ? AND name = ? AND to_kind = ? AND to_name = ? AND via = ?",
            [(*place, edge.kind, edge.name, edge.via) for edge in before - edges],
        )
        execute(
            "INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?)",
            [(*place, edge.kind, edge.name, edge.via) for edge in edges - before],
        )

    def _note(self, key: Key, *, deleted: bool) -> None:
        if key.kind not in INTERNAL_KINDS:
            self._connection.execute(
                "INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?)",
                (self._moment.revision, key.kind, key.namespace, key.name, int(deleted)),
            )

    def _count(self, key: Key, by: int) -> None:
        if key.kind not in INTERNAL_KINDS:
            self._connection.execute(
                "INSERT INTO occupants VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (key.namespace, key.kind, by),
            )
