"""Content in an S3 bucket, ``blobs/sha256/<hex>``, staged in a directory of this host on its way in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hythe.digest import Digest
from hythe.errors import HytheError, NotFound, OutOfRange, Unimplemented
from hythe.ports.content import BlobInfo, Ingest, IngestStatus
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.s3_bucket import S3Bucket, Stored
from hythe_distribution.adapters.s3_ingest import BLOB_PREFIX, S3Ingest

ABANDONED_S = 86_400.0
"""An upload that was begun that long ago is taken for one whose process is gone; other hosts may use the bucket, too."""
SWEEP_INTERVAL_S = 3_600.0

_HEX_DIGITS = frozenset("0123456789abcdef")


class S3Content:
    """A body of `hythe.ports.content.Content`. Several hosts may use one bucket; each has a staging directory of its own.

    Beside the errors of the port, every method that asks the store raises those of `s3_errors.translated`.
    """

    def __init__(self, bucket: S3Bucket, staging: Path, reserve_bytes: int = 0) -> None:
        """Open the store; nothing is asked of S3 yet.

        Args:
            staging: directory for ingests, made (0700) if needed; one process owns it.
            reserve_bytes: bytes of its file system that ingests must leave free.

        Raises:
            FailedPrecondition, ResourceExhausted: the directory cannot be made.
        """
        self._bucket = bucket
        self._staging = DirectoryContent(staging, reserve_bytes)
        self._sweeping = threading.Lock()
        self._swept_at = time.monotonic()

    def __repr__(self) -> str:
        return f"S3Content({self._bucket!r})"

    def info(self, digest: Digest) -> BlobInfo:
        """See `hythe.ports.content.Content.info`."""
        found = self._bucket.head(BLOB_PREFIX + digest.hex)
        if found is None:
            raise NotFound(f"look up {digest}: it is not in {self._bucket!r}", details={"kind": "blob"})
        return BlobInfo(digest, found.size_bytes, found.changed_ns)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        size_bytes = self.info(digest).size_bytes
        if not 0 <= offset <= size_bytes or (length is not None and length < 0):
            raise OutOfRange(f"read {digest}: range {offset}+{length} of a blob of {size_bytes} bytes")
        left = size_bytes - offset
        return self._bucket.read(BLOB_PREFIX + digest.hex, offset, left if length is None else min(left, length))

    def locate(self, digest: Digest) -> Path:
        """See `hythe.ports.content.Content.locate`."""
        self.info(digest)
        raise Unimplemented(f"locate {digest}: content in S3 has no path on this host")

    def presign(self, digest: Digest, lifetime_s: float) -> str | None:
        """See `hythe.ports.content.Content.presign`; at most a week."""
        self.info(digest)
        return self._bucket.presign(BLOB_PREFIX + digest.hex, lifetime_s)

    def walk(self) -> Iterator[BlobInfo]:
        """See `hythe.ports.content.Content.walk`; ordered by digest."""
        for found in self._bucket.walk(BLOB_PREFIX):
            digest = _digest_of(found)
            if digest is not None:
                yield BlobInfo(digest, found.size_bytes, found.changed_ns)

    def delete(self, digest: Digest) -> None:
        """See `hythe.ports.content.Content.delete`."""
        self.info(digest)
        self._bucket.remove(BLOB_PREFIX + digest.hex)

    def check_room(self, size_bytes: int) -> None:
        """See `hythe.ports.content.Content.check_room`; it is the staging directory's that counts."""
        self._staging.check_room(size_bytes)

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> Ingest:
        """See `hythe.ports.content.Content.open_ingest`; S3 is not asked before the commit."""
        self._sweep_now_and_then()
        staged = self._staging.open_ingest(reference, total_bytes=total_bytes, resume=resume)
        return S3Ingest(self._bucket, staged, reference)

    def status(self, reference: str) -> IngestStatus:
        """See `hythe.ports.content.Content.status`."""
        return self._staging.status(reference)

    def ingests(self) -> Iterator[IngestStatus]:
        """See `hythe.ports.content.Content.ingests`; those of this host."""
        return self._staging.ingests()

    def abort(self, reference: str) -> None:
        """See `hythe.ports.content.Content.abort`."""
        self._staging.abort(reference)

    def sweep(self) -> None:
        """Remove what a process was killed over: unfinished staging here, and uploads that were begun a day ago.

        To be called once by the process that owns the staging directory, before it opens an ingest.
        """
        self._staging.sweep()
        self.sweep_uploads()

    def sweep_uploads(self, older_than_s: float = ABANDONED_S) -> int:
        """Drop the parts of blobs whose upload was begun that long ago and not completed; return how many uploads."""
        self._swept_at = time.monotonic()
        return self._bucket.abort_uploads(BLOB_PREFIX, older_than_s)

    def _sweep_now_and_then(self) -> None:
        """Sweep once an hour, by who brings a blob: without blobs coming in nothing is left behind."""
        if time.monotonic() - self._swept_at < SWEEP_INTERVAL_S or not self._sweeping.acquire(blocking=False):
            return
        try:
            self.sweep_uploads()
        except HytheError:
            pass  # the blob matters more, and says itself where the store fails
        finally:
            self._sweeping.release()


def _digest_of(found: Stored) -> Digest | None:
    name = found.key.removeprefix(BLOB_PREFIX)
    return Digest(name) if len(name) == 64 and _HEX_DIGITS.issuperset(name) else None
