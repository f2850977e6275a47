"""Records of who sees which blob, in one SQLite file beside the directory of the blobs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hythe.clock import now_ns
from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument, OutOfRange
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.adapters.ledger_sqlite import SqliteLedger, store
from hythe_distribution.adapters.records_file import RecordsFile
from hythe_distribution.content_events import created, deleted
from hythe_distribution.labels import as_labels, check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import BlobChange, Publication

PAGE_RECORDS = 256
MAX_GONE = 50_000
"""How many records that went are remembered by `SqliteRecords.changes`; beyond it, all are forgotten at once."""
ASKED_AT_ONCE = 500

_COLUMNS = "digest, size_bytes, created_ns, updated_ns, labels"


class SqliteRecords:
    """A body of `hythe_distribution.records.Records`; one process owns the file. Safe for several threads.

    Attributes:
        ledger: events of these records, and facts, in the same file.
    """

    def __init__(self, path: Path, *, virgin: bool = False, max_gone: int = MAX_GONE) -> None:
        """Open the records at `path`, making the file if there is none; its directory must exist.

        Args:
            virgin: the blobs' store is empty; a file that is made now remembers it.

        Raises:
            DataLoss: the file is damaged; it is left as it is.
            FailedPrecondition: it belongs to another program or to a newer version, or can't be written.
            ResourceExhausted: the disk is full.
            Unavailable: another program holds it.
        """
        self._file = RecordsFile(path, virgin=virgin)
        self._max_gone = max_gone
        self.ledger = SqliteLedger(self._file)

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`; all or nothing, in one transaction."""
        check_publications(blobs)
        with self._file.changing("publish blobs in") as connection:
            for blob in blobs:
                before = self._find(connection, namespace, blob.digest)
                after = published(before, blob, now_ns())
                if after is not before:
                    _put(connection, namespace, after)
                if before is None:
                    store(connection, created(namespace, blob.digest, blob.size_bytes))

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        with self._file.reading() as connection:
            return self._get(connection, namespace, digest)

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`; reads pages, and holds nothing between them."""
        while True:
            with self._file.reading() as connection:
                page = connection.execute(
                    f"SELECT {_COLUMNS} FROM blobs WHERE namespace = ? AND digest > ? ORDER BY digest LIMIT ?",
                    (namespace, after, PAGE_RECORDS),
                ).fetchall()
            for row in page:
                yield self._record(row)
            if len(page) < PAGE_RECORDS:
                return
            after = page[-1][0]

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe_distribution.records.Records.label`."""
        check_labels(changes)
        with self._file.changing("label a blob in") as connection:
            before = self._get(connection, namespace, digest)
            after = relabelled(before, changes, now_ns())
            if after is not before:
                _put(connection, namespace, after)
            return after

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        if not self.withdraw_all(namespace, [digest]):
            raise no_record(namespace, digest)

    def withdraw_all(self, namespace: str, digests: Sequence[Digest]) -> tuple[Digest, ...]:
        """See `hythe_distribution.records.Records.withdraw_all`; all in one transaction."""
        gone = []
        with self._file.changing("withdraw blobs in") as connection:
            for digest in digests:
                key = (namespace, str(digest))
                if connection.execute("DELETE FROM blobs WHERE namespace = ? AND digest = ?", key).rowcount:
                    connection.execute("INSERT OR REPLACE INTO gone VALUES (?, ?, ?)", (*key, _next(connection)))
                    store(connection, deleted(namespace, digest))
                    gone.append(digest)
            if gone:
                _forget_gone(connection, self._max_gone)
        return tuple(gone)

    def changes(self, after: int, limit: int) -> Sequence[BlobChange]:
        """See `hythe_distribution.records.Records.changes`."""
        with self._file.reading() as connection:
            last, forgotten = connection.execute("SELECT last, forgotten FROM sequence").fetchone()
            if after and not forgotten <= after <= last:
                raise OutOfRange(f"list changes of content beyond {after}: known are those from {forgotten} to {last}")
            # Two questions that each follow an index: joined, SQLite would sort all of both for every page.
            rows = [
                *connection.execute(
                    "SELECT sequence, namespace, digest, size_bytes, labels FROM blobs WHERE sequence > ?"
                    " ORDER BY sequence LIMIT ?",
                    (after, limit),
                ),
                *connection.execute(
                    "SELECT sequence, namespace, digest, 0, NULL FROM gone WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, limit),
                ),
            ]
        rows.sort(key=lambda row: row[0])
        return [self._change(*row) for row in rows[:limit]]

    def unseen(self, digests: Sequence[Digest]) -> list[Digest]:
        """See `hythe_distribution.records.Records.unseen`."""
        seen: set[str] = set()
        for start in range(0, len(digests), ASKED_AT_ONCE):
            asked = [str(digest) for digest in digests[start : start + ASKED_AT_ONCE]]
            marks = ",".join("?" * len(asked))
            with self._file.reading() as connection:
                found = connection.execute(f"SELECT digest FROM blobs WHERE digest IN ({marks})", asked)
                seen.update(text for (text,) in found)
        return [digest for digest in digests if str(digest) not in seen]

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT namespace FROM blobs WHERE digest = ?", (str(digest),)).fetchall()
        return frozenset(namespace for (namespace,) in rows)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`."""
        self._file.close()

    def _get(self, connection: sqlite3.Connection, namespace: str, digest: Digest) -> LabelledBlob:
        found = self._find(connection, namespace, digest)
        if found is None:
            raise no_record(namespace, digest)
        return found

    def _find(self, connection: sqlite3.Connection, namespace: str, digest: Digest) -> LabelledBlob | None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM blobs WHERE namespace = ? AND digest = ?", (namespace, str(digest))
        ).fetchone()
        return None if row is None else self._record(row)

    def _record(self, row: tuple[str, int, int, int, str]) -> LabelledBlob:
        digest, size_bytes, created_ns, updated_ns, labels = row
        try:
            return LabelledBlob(parse_digest(digest), size_bytes, created_ns, updated_ns, as_labels(json.loads(labels)))
        except (ValueError, InvalidArgument) as error:
            raise self._file.damaged(str(error)) from error

    def _change(self, sequence: int, namespace: str, digest: str, size_bytes: int, labels: str | None) -> BlobChange:
        record = self._record((digest, size_bytes, 0, 0, "{}" if labels is None else labels))
        return BlobChange(sequence, namespace, record.digest, size_bytes, record.labels, labels is None)


def _put(connection: sqlite3.Connection, namespace: str, blob: LabelledBlob) -> None:
    labels = json.dumps(dict(blob.labels), separators=(",", ":"), sort_keys=True)
    connection.execute(
        f"INSERT OR REPLACE INTO blobs (namespace, {_COLUMNS}, sequence) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (namespace, str(blob.digest), blob.size_bytes, blob.created_ns, blob.updated_ns, labels, _next(connection)),
    )
    connection.execute("DELETE FROM gone WHERE namespace = ? AND digest = ?", (namespace, str(blob.digest)))


def _next(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("UPDATE sequence SET last = last + 1 RETURNING last").fetchone()
    return int(last)


def _forget_gone(connection: sqlite3.Connection, most: int) -> None:
    """Where more than `most` records have gone, forget all of them and give what is left numbers beyond those.

    So nobody can ask for what changed since one of the old numbers and be told of less than that.
    """
    (count,) = connection.execute("SELECT count(*) FROM gone").fetchone()
    if count <= most:
        return
    (last,) = connection.execute("SELECT last FROM sequence").fetchone()
    connection.execute("DELETE FROM gone")
    renumbered = connection.execute(
        """
        UPDATE blobs SET sequence = ? + numbered.number FROM (
            SELECT namespace, digest, ROW_NUMBER() OVER (ORDER BY sequence) AS number FROM blobs
        ) AS numbered WHERE blobs.namespace = numbered.namespace AND blobs.digest = numbered.digest
        """,
        (last,),
    )
    connection.execute("UPDATE sequence SET forgotten = last, last = last + ?", (renumbered.rowcount,))
