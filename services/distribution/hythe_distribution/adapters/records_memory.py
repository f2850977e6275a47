"""Records of who sees which blob, in memory: for tests, and beside content in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.errors import OutOfRange
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.adapters.ledger_memory import MemoryLedger
from hythe_distribution.content_events import created, deleted
from hythe_distribution.labels import check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import BlobChange, Publication


class MemoryRecords:
    """A body of `hythe_distribution.records.Records` that forgets everything when its process ends.

    Attributes:
        ledger: events of these records, and facts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[tuple[str, Digest], LabelledBlob] = {}
        self._sequences: dict[tuple[str, Digest], int] = {}
        self._last = 0
        self.ledger = MemoryLedger()

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`."""
        check_publications(blobs)
        with self._lock:
            for blob in blobs:
                before = self._blobs.get((namespace, blob.digest))
                self._put(namespace, before, published(before, blob, now_ns()))
                if before is None:
                    self.ledger.store(created(namespace, blob.digest, blob.size_bytes))

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        with self._lock:
            return self._get(namespace, digest)

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`."""
        with self._lock:
            found = [blob for (of, digest), blob in self._blobs.items() if of == namespace and str(digest) > after]
        return iter(sorted(found, key=lambda blob: blob.digest.hex))

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe_distribution.records.Records.label`."""
        check_labels(changes)
        with self._lock:
            before = self._get(namespace, digest)
            return self._put(namespace, before, relabelled(before, changes, now_ns()))

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        if not self.withdraw_all(namespace, [digest]):
            raise no_record(namespace, digest)

    def withdraw_all(self, namespace: str, digests: Sequence[Digest]) -> tuple[Digest, ...]:
        """See `hythe_distribution.records.Records.withdraw_all`."""
        with self._lock:
            gone = tuple(digest for digest in dict.fromkeys(digests) if (namespace, digest) in self._blobs)
            for digest in gone:
                del self._blobs[namespace, digest]
                self._number(namespace, digest)
                self.ledger.store(deleted(namespace, digest))
        return gone

    def changes(self, after: int, limit: int) -> Sequence[BlobChange]:
        """See `hythe_distribution.records.Records.changes`."""
        with self._lock:
            if not 0 <= after <= self._last:
                raise OutOfRange(f"list changes of content beyond {after}: the last is {self._last}")
            found = sorted((number, *key) for key, number in self._sequences.items() if number > after)
            return [self._change(*entry) for entry in found[:limit]]

    def unseen(self, digests: Sequence[Digest]) -> list[Digest]:
        """See `hythe_distribution.records.Records.unseen`."""
        return [digest for digest in digests if not self.namespaces_of(digest)]

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`."""
        with self._lock:
            return frozenset(namespace for namespace, of in self._blobs if of == digest)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`; there is nothing to give back."""

    def _get(self, namespace: str, digest: Digest) -> LabelledBlob:
        found = self._blobs.get((namespace, digest))
        if found is None:
            raise no_record(namespace, digest)
        return found

    def _put(self, namespace: str, before: LabelledBlob | None, after: LabelledBlob) -> LabelledBlob:
        if after is not before:
            self._blobs[namespace, after.digest] = after
            self._number(namespace, after.digest)
        return after

    def _number(self, namespace: str, digest: Digest) -> None:
        self._last += 1
        self._sequences[namespace, digest] = self._last

    def _change(self, sequence: int, namespace: str, digest: Digest) -> BlobChange:
        blob = self._blobs.get((namespace, digest))
        if blob is None:
            return BlobChange(sequence, namespace, digest, gone=True)
        return BlobChange(sequence, namespace, digest, blob.size_bytes, blob.labels)
