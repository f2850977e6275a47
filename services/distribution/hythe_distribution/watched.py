"""Content and records that note who looks for which blob: what all of the service uses but the collection itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hythe.digest import Digest
from hythe.ports.content import BlobInfo, Content, Ingest, IngestStatus
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.ledger import Ledger
from hythe_distribution.records import BlobChange, Publication, Records
from hythe_distribution.watch import Watch


class WatchedContent:
    """A body of `hythe.ports.content.Content` over another."""

    def __init__(self, content: Content, watch: Watch) -> None:
        self._content = content
        self._watch = watch

    def info(self, digest: Digest) -> BlobInfo:
        """See `hythe.ports.content.Content.info`."""
        self._watch.touch((digest,))
        return self._content.info(digest)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        self._watch.touch((digest,))
        return self._content.read(digest, offset, length)

    def locate(self, digest: Digest) -> Path:
        """See `hythe.ports.content.Content.locate`."""
        self._watch.touch((digest,))
        return self._content.locate(digest)

    def presign(self, digest: Digest, lifetime_s: float) -> str | None:
        """See `hythe.ports.content.Content.presign`; the blob stays as long as the URL is good."""
        self._watch.touch((digest,))
        self._watch.promise(digest, lifetime_s)
        return self._content.presign(digest, lifetime_s)

    def walk(self) -> Iterator[BlobInfo]:
        """See `hythe.ports.content.Content.walk`; a list is no use of what stands in it."""
        return self._content.walk()

    def delete(self, digest: Digest) -> None:
        """See `hythe.ports.content.Content.delete`."""
        self._content.delete(digest)

    def check_room(self, size_bytes: int) -> None:
        """See `hythe.ports.content.Content.check_room`."""
        self._content.check_room(size_bytes)

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> Ingest:
        """See `hythe.ports.content.Content.open_ingest`."""
        return _WatchedIngest(self._content.open_ingest(reference, total_bytes=total_bytes, resume=resume), self._watch)

    def status(self, reference: str) -> IngestStatus:
        """See `hythe.ports.content.Content.status`."""
        return self._content.status(reference)

    def ingests(self) -> Iterator[IngestStatus]:
        """See `hythe.ports.content.Content.ingests`."""
        return self._content.ingests()

    def abort(self, reference: str) -> None:
        """See `hythe.ports.content.Content.abort`."""
        self._content.abort(reference)


class _WatchedIngest:
    """A body of `hythe.ports.content.Ingest` over another."""

    def __init__(self, ingest: Ingest, watch: Watch) -> None:
        self._ingest = ingest
        self._watch = watch
        self.write = ingest.write  # of each MiB of a download: no detour

    @property
    def offset(self) -> int:
        """See `hythe.ports.content.Ingest.offset`."""
        return self._ingest.offset

    def read_back(self, offset: int, length: int) -> bytes:
        """See `hythe.ports.content.Ingest.read_back`."""
        return self._ingest.read_back(offset, length)

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """See `hythe.ports.content.Ingest.commit`."""
        info = self._ingest.commit(expected, size_bytes)
        self._watch.touch((info.digest,))
        return info

    def abort(self) -> None:
        """See `hythe.ports.content.Ingest.abort`."""
        self._ingest.abort()

    def close(self) -> None:
        """See `hythe.ports.content.Ingest.close`."""
        self._ingest.close()

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WatchedRecords:
    """A body of `hythe_distribution.records.Records` over another."""

    def __init__(self, records: Records, watch: Watch) -> None:
        self._records = records
        self._watch = watch

    @property
    def ledger(self) -> Ledger:
        """See `hythe_distribution.records.Records.ledger`."""
        return self._records.ledger

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`."""
        self._watch.touch(blob.digest for blob in blobs)
        self._records.publish(namespace, blobs)

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        self._watch.touch((digest,))
        return self._records.get(namespace, digest)

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`; a list is no use of what stands in it."""
        return self._records.walk(namespace, after)

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe_distribution.records.Records.label`."""
        self._watch.touch((digest,))
        return self._records.label(namespace, digest, changes)

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        self._records.withdraw(namespace, digest)

    def withdraw_all(self, namespace: str, digests: Sequence[Digest]) -> tuple[Digest, ...]:
        """See `hythe_distribution.records.Records.withdraw_all`."""
        return self._records.withdraw_all(namespace, digests)

    def changes(self, after: int, limit: int) -> Sequence[BlobChange]:
        """See `hythe_distribution.records.Records.changes`."""
        return self._records.changes(after, limit)

    def unseen(self, digests: Sequence[Digest]) -> list[Digest]:
        """See `hythe_distribution.records.Records.unseen`."""
        return self._records.unseen(digests)

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`."""
        return self._records.namespaces_of(digest)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`."""
        self._records.close()
