"""Records of who sees which blob, as objects beside the blobs: ``records/<namespace>/sha256/<hex>``, in JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from hythe import failpoints
from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.errors import DataLoss
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.adapters.intents import Intents
from hythe_distribution.adapters.ledger_sqlite import SqliteLedger
from hythe_distribution.adapters.records_file import RecordsFile
from hythe_distribution.adapters.s3_bucket import S3Bucket
from hythe_distribution.adapters.s3_changes import Listed, S3Changes
from hythe_distribution.adapters.s3_keys import PREFIX, digest_in, key_of, namespace_in, prefix_of, record_in
from hythe_distribution.content_events import Happening, created, deleted
from hythe_distribution.labels import as_labels, check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import BlobChange, Publication

REQUESTS_AT_ONCE = 8
PAGE_RECORDS = 64
MAX_RECORD_BYTES = 16 << 20


class S3Records:
    """A body of `hythe_distribution.records.Records`.

    Attributes:
        ledger: this process's events, and facts, in a file of this host.

    Two processes that label the same blob in the same moment may lose one of the changes: S3 has no transactions.
    """

    def __init__(self, bucket: S3Bucket, ledger: Path) -> None:
        """Keep records in `bucket`, and events of what this process does in a SQLite file of this host, `ledger`.

        Raises:
            DataLoss, FailedPrecondition, ResourceExhausted, Unavailable: as `open_records` says, of the file.
        """
        self._bucket = bucket
        self._changing = threading.Lock()
        self._workers = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="records")
        self._changes = S3Changes(bucket)
        self._file = RecordsFile(ledger)
        self._intents = Intents(self._file)
        self.ledger = SqliteLedger(self._file, before_sending=self._settle)

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`; reads at once, and writes in order."""
        check_publications(blobs)
        with self._changing:
            self._intents.settle(self._has_happened)
            seen = dict(
                zip((b.digest for b in blobs), self._find_all(namespace, [b.digest for b in blobs]), strict=True)
            )
            sizes = {blob.digest: blob.size_bytes for blob in blobs if seen[blob.digest] is None}
            fresh = {digest: created(namespace, digest, size_bytes) for digest, size_bytes in sizes.items()}
            with self._told(fresh.values()) as happened:
                for blob in blobs:
                    before = seen[blob.digest]
                    after = seen[blob.digest] = published(before, blob, now_ns())
                    if after is not before:
                        self._put(namespace, after)
                    if before is None:
                        failpoints.reach("distribution.s3.published")
                        happened.append(fresh[blob.digest])

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        found = self._find(namespace, digest)
        if found is None:
            raise no_record(namespace, digest)
        return found

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`; a request for each record, several at once."""
        marker = digest_in(after)
        listed = self._bucket.walk(prefix_of(namespace), "" if marker is None else key_of(namespace, marker))
        found = (digest_in(entry.key.removeprefix(prefix_of(namespace)).replace("/", ":", 1)) for entry in listed)
        digests = (digest for digest in found if digest is not None)
        wanted = (digest for digest in digests if str(digest) > after)
        while page := list(islice(wanted, PAGE_RECORDS)):
            yield from (blob for blob in self._find_all(namespace, page) if blob is not None)

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe_distribution.records.Records.label`."""
        check_labels(changes)
        with self._changing:
            before = self.get(namespace, digest)
            after = relabelled(before, changes, now_ns())
            if after is not before:
                self._put(namespace, after)
            return after

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        if not self.withdraw_all(namespace, [digest]):
            raise no_record(namespace, digest)

    def withdraw_all(self, namespace: str, digests: Sequence[Digest]) -> tuple[Digest, ...]:
        """See `hythe_distribution.records.Records.withdraw_all`; in order."""
        with self._changing:
            self._intents.settle(self._has_happened)
            named = list(dict.fromkeys(digests))
            heads = self._workers.map(lambda digest: self._bucket.head(key_of(namespace, digest)), named)
            gone = [digest for digest, head in zip(named, heads, strict=True) if head is not None]
            events = {digest: deleted(namespace, digest) for digest in gone}
            with self._told(events.values()) as happened:
                for digest in gone:
                    self._bucket.remove(key_of(namespace, digest))
                    failpoints.reach("distribution.s3.withdrawn")
                    happened.append(events[digest])
        return tuple(gone)

    def changes(self, after: int, limit: int) -> Sequence[BlobChange]:
        """See `hythe_distribution.records.Records.changes`; see `S3Changes` for what its numbers are."""
        return list(self._workers.map(self._change, self._changes.page(after, limit)))

    def unseen(self, digests: Sequence[Digest]) -> list[Digest]:
        """See `hythe_distribution.records.Records.unseen`; asks only for what the last listing didn't have."""
        return [digest for digest in digests if not self._changes.seen(digest) and not self.namespaces_of(digest)]

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`; a request for each namespace, several at once."""
        names = (namespace_in(token) for token in self._bucket.directories(PREFIX))
        namespaces = [name for name in names if name is not None]
        heads = self._workers.map(lambda namespace: self._bucket.head(key_of(namespace, digest)), namespaces)
        return frozenset(name for name, head in zip(namespaces, heads, strict=True) if head is not None)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._file.close()

    @contextmanager
    def _told(self, happenings: Iterable[Happening]) -> Iterator[list[Happening]]:
        """Run a block that notes what of `happenings` has happened: said before it, told after it, also when it fails."""
        announced = self._intents.announce(list(happenings))
        happened: list[Happening] = []
        try:
            yield happened
        finally:
            self._intents.tell(announced, happened)

    def _settle(self) -> None:
        with self._changing:
            self._intents.settle(self._has_happened)

    def _has_happened(self, happening: Happening) -> bool:
        there = self._bucket.head(key_of(happening.namespace, happening.digest)) is not None
        return there == (happening.past == "created")

    def _change(self, listed: Listed) -> BlobChange:
        record = record_in(listed.key)
        assert record is not None
        namespace, digest = record
        found = None if listed.gone else self._find(namespace, digest)
        if found is None:
            return BlobChange(listed.sequence, namespace, digest, gone=True)
        return BlobChange(listed.sequence, namespace, digest, found.size_bytes, found.labels)

    def _find_all(self, namespace: str, digests: Sequence[Digest]) -> list[LabelledBlob | None]:
        return list(self._workers.map(lambda digest: self._find(namespace, digest), digests))

    def _find(self, namespace: str, digest: Digest) -> LabelledBlob | None:
        key = key_of(namespace, digest)
        data = self._bucket.get(key, MAX_RECORD_BYTES)
        return None if data is None else _parse(data, digest, key)

    def _put(self, namespace: str, blob: LabelledBlob) -> None:
        record = {
            "size_bytes": blob.size_bytes,
            "created_ns": blob.created_ns,
            "updated_ns": blob.updated_ns,
            "labels": dict(blob.labels),
        }
        self._bucket.put(key_of(namespace, blob.digest), json.dumps(record, sort_keys=True).encode())


def _parse(data: bytes, digest: Digest, key: str) -> LabelledBlob:
    try:
        record = json.loads(data)
        numbers = [record[name] for name in ("size_bytes", "created_ns", "updated_ns")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a number is none")
        size_bytes, created_ns, updated_ns = numbers
        return LabelledBlob(digest, size_bytes, created_ns, updated_ns, as_labels(record["labels"]))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataLoss(
            f"read {key}: it is no record",
            cause=repr(error),
            next_step="remove that object, and pull the images again",
        ) from error
