"""Content in memory: for tests, and for processes that must not touch a disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.errors import DataLoss, NotFound, OutOfRange, Unavailable, Unimplemented
from hythe.ports.content import MAX_CHUNK_BYTES, BlobInfo, Ingest, IngestStatus
from hythe_distribution.verifier import Verifier


class MemoryContent:
    """A body of `hythe.ports.content.Content` that forgets everything when its process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Digest, tuple[bytes, int]] = {}
        self._left: dict[str, tuple[IngestStatus, bytearray]] = {}
        self._held: dict[str, MemoryIngest] = {}

    def info(self, digest: Digest) -> BlobInfo:
        """See `hythe.ports.content.Content.info`."""
        data, committed_ns = self._blob(digest)
        return BlobInfo(digest, len(data), committed_ns)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        data, _ = self._blob(digest)
        if not 0 <= offset <= len(data) or (length is not None and length < 0):
            raise OutOfRange(f"read {digest}: range {offset}+{length} of a blob of {len(data)} bytes")
        end = len(data) if length is None else min(len(data), offset + length)
        return (data[start : min(end, start + MAX_CHUNK_BYTES)] for start in range(offset, end, MAX_CHUNK_BYTES))

    def locate(self, digest: Digest) -> Path:
        """See `hythe.ports.content.Content.locate`."""
        self._blob(digest)
        raise Unimplemented(f"locate {digest}: content in memory has no path")

    def presign(self, digest: Digest, lifetime_s: float) -> str | None:
        """See `hythe.ports.content.Content.presign`; memory serves nobody."""
        self._blob(digest)
        return None

    def walk(self) -> Iterator[BlobInfo]:
        """See `hythe.ports.content.Content.walk`."""
        with self._lock:
            blobs = list(self._blobs.items())
        return (BlobInfo(digest, len(data), committed_ns) for digest, (data, committed_ns) in blobs)

    def delete(self, digest: Digest) -> None:
        """See `hythe.ports.content.Content.delete`."""
        self._blob(digest)
        with self._lock:
            self._blobs.pop(digest, None)

    def check_room(self, size_bytes: int) -> None:
        """See `hythe.ports.content.Content.check_room`; memory has no reserve."""

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> Ingest:
        """See `hythe.ports.content.Content.open_ingest`."""
        with self._lock:
            if reference in self._held:
                raise Unavailable(f"open ingest {reference}: another writer holds it")
            status, data = self._left.pop(reference, (None, bytearray()))
            if not resume or status is None:
                status, data = IngestStatus(reference, 0, total_bytes, now_ns(), now_ns()), bytearray()
            if total_bytes is not None and len(data) > total_bytes:
                raise DataLoss(f"open ingest {reference}: expected {total_bytes} bytes, more were left")
            ingest = self._held[reference] = MemoryIngest(self, replace(status, total_bytes=total_bytes), data)
            return ingest

    def status(self, reference: str) -> IngestStatus:
        """See `hythe.ports.content.Content.status`."""
        for found in self.ingests():
            if found.reference == reference:
                return found
        raise NotFound(f"look up ingest {reference}: there is none", details={"kind": "ingest"})

    def ingests(self) -> Iterator[IngestStatus]:
        """See `hythe.ports.content.Content.ingests`."""
        with self._lock:
            return iter(
                [*(status for status, _ in self._left.values()), *(held.status for held in self._held.values())]
            )

    def abort(self, reference: str) -> None:
        """See `hythe.ports.content.Content.abort`."""
        self.status(reference)
        with self._lock:
            if reference in self._held:
                raise Unavailable(f"abort ingest {reference}: a writer holds it")
            self._left.pop(reference, None)

    def keep(self, status: IngestStatus, data: bytearray | None) -> None:
        """Take back the ingest of a writer that lets go of it; without `data` nothing is left of it."""
        with self._lock:
            self._held.pop(status.reference, None)
            if data is not None:
                self._left[status.reference] = (status, data)

    def add(self, digest: Digest, data: bytes) -> BlobInfo:
        """Take in a verified blob."""
        with self._lock:
            data, committed_ns = self._blobs.setdefault(digest, (data, now_ns()))
        return BlobInfo(digest, len(data), committed_ns)

    def _blob(self, digest: Digest) -> tuple[bytes, int]:
        with self._lock:
            found = self._blobs.get(digest)
        if found is None:
            raise NotFound(f"look up {digest}: it is not in the content store", details={"kind": "blob"})
        return found


class MemoryIngest:
    """A body of `hythe.ports.content.Ingest`."""

    def __init__(self, store: MemoryContent, status: IngestStatus, data: bytearray) -> None:
        self._store = store
        self._status = status
        self._data = data
        self._verifier = Verifier(status.reference, status.total_bytes)
        self._verifier.update(bytes(data))
        self._open = True

    @property
    def status(self) -> IngestStatus:
        """How far it is."""
        return replace(self._status, offset=len(self._data), updated_ns=now_ns())

    @property
    def offset(self) -> int:
        """See `hythe.ports.content.Ingest.offset`."""
        return len(self._data)

    def write(self, data: bytes | memoryview) -> None:
        """See `hythe.ports.content.Ingest.write`."""
        try:
            self._verifier.update(data)
        except DataLoss:
            self.abort()
            raise
        self._data += data

    def read_back(self, offset: int, length: int) -> bytes:
        """See `hythe.ports.content.Ingest.read_back`."""
        return bytes(self._data[offset : offset + length]) if self._open else b""

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """See `hythe.ports.content.Ingest.commit`."""
        try:
            return self._store.add(self._verifier.check(expected, size_bytes), bytes(self._data))
        finally:
            self.abort()

    def abort(self) -> None:
        """See `hythe.ports.content.Ingest.abort`."""
        self._let_go(None)

    def close(self) -> None:
        """See `hythe.ports.content.Ingest.close`."""
        self._let_go(self._data or None)

    def _let_go(self, left: bytearray | None) -> None:
        if self._open:
            self._open = False
            self._store.keep(self.status, left)

    def __enter__(self) -> MemoryIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
