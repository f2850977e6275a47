"""A store in SQLite as a whole: read for a copy, or filled from one."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from hythe import outbox_table
from hythe.durable import sync_directory
from hythe.errors import DataLoss, FailedPrecondition
from hythe.ports.events import OutgoingEvent
from hythe.process import DirectoryLock
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import connect, open_store
from hythe_metadata.dump import Entry, Head, NumberEntry, RecordEntry, unfinished
from hythe_metadata.records import INTERNAL_KINDS, Edge, Key, Stored

HAS_UNIQUE, HAS_EDGES = 1, 2
EVENTS_AT_ONCE = 500
_STEP = "copy metadata store"
_MS_NS = 1_000_000


class SqliteDump:
    """Keeps the promises of `hythe_metadata.dump.Source` and of `hythe_metadata.dump.Target`."""

    def __init__(self, path: Path) -> None:
        """Look at the store at `path`, whose directory belongs to this process until `close`.

        Raises:
            FailedPrecondition: hythe-metadata, or another program, uses that directory.
        """
        self._path = path
        self._draft = path.with_name(f"{path.name}.copy")
        self._lock = DirectoryLock(path.parent)
        self._open: sqlite3.Connection | None = None

    def hold(self, to: str) -> Head:
        """See `hythe_metadata.dump.Source.hold`."""
        if not self._path.exists():
            raise FailedPrecondition(f"{_STEP} {self._path}: there is none")
        open_store(self._path).close()  # looks whether it is whole, ours and not moved, and brings it up to date
        with STORE.translated(_STEP, self._path):
            self._connection.execute("PRAGMA journal_mode = DELETE")  # refused while anybody else has it open
        self._say_moved(unfinished(to))
        with STORE.translated(_STEP, self._path):
            self._connection.execute("PRAGMA journal_mode = WAL")
        return self.head()

    def finish(self, to: str) -> None:
        """See `hythe_metadata.dump.Source.finish`."""
        self._say_moved(to)

    def release(self) -> None:
        """See `hythe_metadata.dump.Source.release`."""
        self._say_moved("")

    def head(self) -> Head:
        """See `hythe_metadata.dump.Target.head`."""
        with STORE.translated(_STEP, self._path):
            store_id, era, revision = self._connection.execute("SELECT id, era, revision FROM store").fetchone()
            row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        return Head(store_id, era, revision, row[0] if row else 0)

    def entries(self) -> Iterator[Entry]:
        """See `hythe_metadata.dump.Source.entries`."""
        with STORE.translated(_STEP, self._path):
            yield from self._records()
            yield from self._numbers()
            after = 0
            while events := outbox_table.outgoing(self._connection, after, EVENTS_AT_ONCE):
                yield from events
                after = events[-1].sequence

    def check_empty(self) -> None:
        """See `hythe_metadata.dump.Target.check_empty`."""
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            if path.exists():
                raise FailedPrecondition(
                    f"{_STEP} to {self._path}: {path} is there",
                    next_step="choose another file, or move that one away",
                )

    def fill(self, head: Head, entries: Iterable[Entry]) -> None:
        """See `hythe_metadata.dump.Target.fill`."""
        self._remove(self._draft)
        with STORE.translated(_STEP, self._draft):
            connection = open_store(self._draft)
            try:
                connection.execute("BEGIN IMMEDIATE")
                counts: Counter[tuple[str, str]] = Counter()
                for entry in entries:
                    _write(connection, entry, counts)
                _write_head(connection, head, counts)
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()
        self._draft.rename(self._path)
        sync_directory(self._path.parent)

    def clear(self) -> None:
        """See `hythe_metadata.dump.Target.clear`."""
        self._close()
        for path in (self._draft, self._path):
            self._remove(path)

    def close(self) -> None:
        """See `hythe_metadata.dump.Source.close`."""
        self._close()
        self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = connect(self._path)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _say_moved(self, to: str) -> None:
        with STORE.translated(_STEP, self._path):
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("UPDATE store SET moved_to = ?", (to,))

    def _records(self) -> Iterator[RecordEntry]:
        execute = self._connection.execute
        counts: Counter[tuple[str, str]] = Counter()
        uniques = edges = 0
        rows = execute(
            "SELECT kind, namespace, name, revision, forget_ns, body, bulk FROM records ORDER BY kind, namespace, name"
        )
        for row in rows:
            place = row[:3]
            unique = execute(
                "SELECT idx, space, value FROM uniques WHERE kind = ? AND namespace = ? AND name = ?", place
            )
            edge = execute(
                "SELECT to_kind, to_name, via FROM edges WHERE kind = ? AND namespace = ? AND name = ?"
                " ORDER BY to_kind, to_name, via",
                place,
            )
            stored = Stored(Key(*place), row[3], row[5], row[6])
            forget_at_ms = -(-row[4] // _MS_NS)
            found = RecordEntry(stored, frozenset(unique), tuple(Edge(*parts) for parts in edge), forget_at_ms)
            uniques, edges = uniques + len(found.unique), edges + len(found.edges)
            if stored.key.kind not in INTERNAL_KINDS:
                counts[stored.key.namespace, stored.key.kind] += 1
            yield found
        kept = {(space, kind): count for space, kind, count in execute("SELECT * FROM occupants") if count}
        if kept != dict(counts):
            raise self._torn("its counts of records")
        for table, count in (("uniques", uniques), ("edges", edges)):
            if execute(f"SELECT count(*) FROM {table}").fetchone()[0] != count:
                raise self._torn(f"its {table}")

    def _numbers(self) -> Iterator[NumberEntry]:
        rows = self._connection.execute(
            "SELECT namespace, noun, object_id, last, changed_ns FROM event_numbers ORDER BY namespace, noun, object_id"
        )
        for namespace, noun, object_id, last, changed_ns in rows:
            yield NumberEntry(namespace, noun, object_id, last, changed_ns // _MS_NS)

    def _torn(self, what: str) -> DataLoss:
        return DataLoss(
            f"read metadata store {self._path}: {what} don't agree with the rest",
            next_step="nothing was changed; put a backup in its place",
        )

    @staticmethod
    def _remove(path: Path) -> None:
        for end in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def _write(connection: sqlite3.Connection, entry: Entry, counts: Counter[tuple[str, str]]) -> None:
    if isinstance(entry, RecordEntry):
        stored, key = entry.stored, entry.stored.key
        place = (key.kind, key.namespace, key.name)
        has = (HAS_UNIQUE if entry.unique else 0) | (HAS_EDGES if entry.edges else 0)
        values = (*place, stored.revision, entry.forget_at_ms * _MS_NS, has, stored.body, stored.bulk)
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        connection.executemany("INSERT INTO uniques VALUES (?, ?, ?, ?, ?, ?)", [(*u, *place) for u in entry.unique])
        edges = [(*place, edge.kind, edge.name, edge.via) for edge in entry.edges]
        connection.executemany("INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?)", edges)
        if key.kind not in INTERNAL_KINDS:
            counts[key.namespace, key.kind] += 1
    elif isinstance(entry, NumberEntry):
        connection.execute(
            "INSERT INTO event_numbers VALUES (?, ?, ?, ?, ?)",
            (entry.namespace, entry.noun, entry.object_id, entry.last, entry.changed_ms * _MS_NS),
        )
    else:
        _write_event(connection, entry)


def _write_event(connection: sqlite3.Connection, event: OutgoingEvent) -> None:
    connection.execute(
        "INSERT INTO outbox (sequence, namespace, noun, object_id, past, topic, number, time, caller, request_id,"
        " trace_id, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(event.sequence, event.namespace, event.noun, event.object_id, event.past, event.topic, event.number),
            *(event.time, event.caller, event.request_id, event.trace_id),
            json.dumps(dict(event.attributes), separators=(",", ":")),
        ),
    )


def _write_head(connection: sqlite3.Connection, head: Head, counts: Counter[tuple[str, str]]) -> None:
    occupants = [(*place, count) for place, count in counts.items()]
    connection.executemany("INSERT INTO occupants VALUES (?, ?, ?)", occupants)
    connection.execute(
        "UPDATE store SET id = ?, era = ?, revision = ?, log_dropped = ?",
        (head.store_id, head.era, head.revision, head.revision),
    )
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?)", (head.sequence,))
