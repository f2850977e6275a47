"""Records of who sees which blob, in one SQLite file beside the directory of the blobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hythe.clock import now_ns
from hythe.digest import Digest, parse_digest
from hythe.durable import count_sync
from hythe.errors import InvalidArgument
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.adapters.records_schema import damaged, open_records, translated
from hythe_distribution.labels import as_labels, check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import Publication

PAGE_RECORDS = 256

_COLUMNS = "digest, size_bytes, created_ns, updated_ns, labels"


class SqliteRecords:
    """A body of `hythe_distribution.records.Records`; one process owns the file. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        """Open the records at `path`, making the file if there is none; its directory must exist.

        Raises:
            DataLoss: the file is damaged; it is left as it is.
            FailedPrecondition: it belongs to another program or to a newer version, or can't be written.
            ResourceExhausted: the disk is full.
            Unavailable: another program holds it.
        """
        self._path = path
        self._lock = threading.Lock()
        self._connection = open_records(path)

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`; all or nothing, in one transaction."""
        check_publications(blobs)
        with self._change("publish blobs in"):
            for blob in blobs:
                before = self._find(namespace, blob.digest)
                after = published(before, blob, now_ns())
                if after is not before:
                    self._put(namespace, after)

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        with self._lock, translated("read", self._path):
            return self._get(namespace, digest)

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`; reads pages, and holds nothing between them."""
        while True:
            with self._lock, translated("read", self._path):
                page = self._connection.execute(
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
        with self._change("label a blob in"):
            before = self._get(namespace, digest)
            after = relabelled(before, changes, now_ns())
            if after is not before:
                self._put(namespace, after)
            return after

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        with self._change("withdraw a blob in"):
            self._get(namespace, digest)
            self._connection.execute("DELETE FROM blobs WHERE namespace = ? AND digest = ?", (namespace, str(digest)))

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`."""
        with self._lock, translated("read", self._path):
            rows = self._connection.execute("SELECT namespace FROM blobs WHERE digest = ?", (str(digest),)).fetchall()
        return frozenset(namespace for (namespace,) in rows)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`."""
        with self._lock, translated("close", self._path):
            self._connection.close()

    @contextmanager
    def _change(self, step: str) -> Iterator[None]:
        """Run a block as one transaction, which is durable when the block is left, or never was."""
        connection = self._connection
        with self._lock, translated(step, self._path):
            connection.execute("BEGIN IMMEDIATE")
            before = connection.total_changes
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has rolled back itself where the disk was full
                    connection.execute("ROLLBACK")
                raise
            if connection.total_changes != before:
                count_sync()

    def _get(self, namespace: str, digest: Digest) -> LabelledBlob:
        found = self._find(namespace, digest)
        if found is None:
            raise no_record(namespace, digest)
        return found

    def _find(self, namespace: str, digest: Digest) -> LabelledBlob | None:
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM blobs WHERE namespace = ? AND digest = ?", (namespace, str(digest))
        ).fetchone()
        return None if row is None else self._record(row)

    def _put(self, namespace: str, blob: LabelledBlob) -> None:
        labels = json.dumps(dict(blob.labels), separators=(",", ":"), sort_keys=True)
        self._connection.execute(
            f"INSERT OR REPLACE INTO blobs (namespace, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            (namespace, str(blob.digest), blob.size_bytes, blob.created_ns, blob.updated_ns, labels),
        )

    def _record(self, row: tuple[str, int, int, int, str]) -> LabelledBlob:
        digest, size_bytes, created_ns, updated_ns, labels = row
        try:
            return LabelledBlob(parse_digest(digest), size_bytes, created_ns, updated_ns, as_labels(json.loads(labels)))
        except (ValueError, InvalidArgument) as error:
            raise damaged(f"read {self._path}", self._path, str(error)) from error
