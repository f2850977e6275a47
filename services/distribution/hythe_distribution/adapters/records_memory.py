"""Records of who sees which blob, in memory: for tests, and beside content in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.labels import check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import Publication


class MemoryRecords:
    """A body of `hythe_distribution.records.Records` that forgets everything when its process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[tuple[str, Digest], LabelledBlob] = {}

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`."""
        check_publications(blobs)
        with self._lock:
            for blob in blobs:
                key = namespace, blob.digest
                self._blobs[key] = published(self._blobs.get(key), blob, now_ns())

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
            found = self._blobs[namespace, digest] = relabelled(self._get(namespace, digest), changes, now_ns())
            return found

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        with self._lock:
            self._get(namespace, digest)
            del self._blobs[namespace, digest]

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
