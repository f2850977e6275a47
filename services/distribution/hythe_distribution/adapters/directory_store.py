"""Content in a directory, in containerd's layout: ``blobs/sha256/<hex>`` and ``ingest/<hash of reference>/``."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from hythe.digest import Digest
from hythe.durable import sync_directory
from hythe.errors import NotFound, OutOfRange, ResourceExhausted, Unavailable
from hythe.ports.content import MAX_CHUNK_BYTES, BlobInfo, IngestStatus
from hythe_distribution.adapters.directory_ingest import DirectoryIngest, remove_ingest
from hythe_distribution.adapters.disk_errors import reported

_HEX_DIGITS = frozenset("0123456789abcdef")


class DirectoryContent:
    """A body of `hythe.ports.content.Content` on a local file system; one process owns the directory."""

    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        """Open the store, making it (0700) if needed.

        Args:
            root: directory of the store.
            reserve_bytes: bytes of its file system that ingests must leave free.

        Raises:
            FailedPrecondition, ResourceExhausted: the directories cannot be made.
        """
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._blobs = root / "blobs" / "sha256"
        self._ingests = root / "ingest"
        self._lock = threading.Lock()
        self._held: set[str] = set()
        with reported(f"open content store {root}", root):
            for directory in (root, root / "blobs", self._blobs, self._ingests):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._blobs)  # a predecessor may have died between a rename and its fsync

    def info(self, digest: Digest) -> BlobInfo:
        """See `hythe.ports.content.Content.info`."""
        try:
            found = self._path(digest).lstat()
        except FileNotFoundError:
            raise self._no_blob(digest) from None
        if not stat.S_ISREG(found.st_mode):
            raise self._no_blob(digest)
        return BlobInfo(digest, found.st_size, found.st_mtime_ns)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        size_bytes = self.info(digest).size_bytes
        if not 0 <= offset <= size_bytes or (length is not None and length < 0):
            raise OutOfRange(f"read {digest}: range {offset}+{length} of a blob of {size_bytes} bytes")
        end = size_bytes if length is None else min(size_bytes, offset + length)
        return self._chunks(digest, offset, end)

    def _chunks(self, digest: Digest, offset: int, end: int) -> Iterator[bytes]:
        try:
            fd = os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._no_blob(digest) from None
        try:
            while offset < end:
                with reported(f"read {digest}", self._root):
                    chunk = os.pread(fd, min(MAX_CHUNK_BYTES, end - offset), offset)
                if not chunk:
                    return
                offset += len(chunk)
                yield chunk
        finally:
            os.close(fd)

    def locate(self, digest: Digest) -> Path:
        """See `hythe.ports.content.Content.locate`."""
        self.info(digest)
        return self._path(digest)

    def presign(self, digest: Digest, lifetime_s: float) -> str | None:
        """See `hythe.ports.content.Content.presign`; a directory serves nobody."""
        self.info(digest)
        return None

    def walk(self) -> Iterator[BlobInfo]:
        """See `hythe.ports.content.Content.walk`."""
        with os.scandir(self._blobs) as entries:
            for entry in entries:
                if len(entry.name) != 64 or not _HEX_DIGITS.issuperset(entry.name):
                    continue
                try:
                    yield self.info(Digest(entry.name))
                except NotFound:
                    continue

    def delete(self, digest: Digest) -> None:
        """See `hythe.ports.content.Content.delete`."""
        with reported(f"delete {digest}", self._root):
            try:
                self._path(digest).unlink()
            except FileNotFoundError:
                raise self._no_blob(digest) from None

    def check_room(self, size_bytes: int) -> None:
        """See `hythe.ports.content.Content.check_room`."""
        figures = os.statvfs(self._root)
        free_bytes = figures.f_bavail * figures.f_frsize
        if size_bytes + self._reserve_bytes > free_bytes:
            raise ResourceExhausted(
                f"take in {size_bytes} bytes: the file system of {self._root} has {free_bytes} bytes free, "
                f"of which {self._reserve_bytes} stay in reserve",
                next_step=f"free some space there (df {self._root}), then try again",
                details={"kind": "disk"},
            )

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> DirectoryIngest:
        """See `hythe.ports.content.Content.open_ingest`."""
        directory = self._ingest_path(reference)
        self.check_room(max(0, (total_bytes or 0) - (_held_bytes(directory) if resume else 0)))
        with self._lock:
            if reference in self._held:
                raise Unavailable(f"open ingest {reference}: another writer holds it")
            self._held.add(reference)
        try:
            return DirectoryIngest(
                directory,
                self._blobs,
                reference,
                total_bytes,
                resume=resume,
                on_release=lambda: self._release(reference),
            )
        except BaseException:
            self._release(reference)
            raise

    def status(self, reference: str) -> IngestStatus:
        """See `hythe.ports.content.Content.status`."""
        found = _status(self._ingest_path(reference))
        if found is None:
            raise NotFound(f"look up ingest {reference}: there is none", details={"kind": "ingest"})
        return found

    def ingests(self) -> Iterator[IngestStatus]:
        """See `hythe.ports.content.Content.ingests`."""
        with os.scandir(self._ingests) as entries:
            for entry in entries:
                found = _status(Path(entry.path))
                if found is not None:
                    yield found

    def abort(self, reference: str) -> None:
        """See `hythe.ports.content.Content.abort`."""
        self.status(reference)
        with self._lock:
            if reference in self._held:
                raise Unavailable(f"abort ingest {reference}: a writer holds it")
            with reported(f"abort ingest {reference}", self._root):
                remove_ingest(self._ingest_path(reference))

    def sweep(self) -> None:
        """Remove what a predecessor was killed over: ingests not made to the end, or not removed to the end.

        What can be gone on with stays. To be called by the process that owns the store, before it opens an ingest.
        """
        with reported(f"sweep content store {self._root}", self._root), os.scandir(self._ingests) as entries:
            for entry in entries:
                if _status(Path(entry.path)) is None:
                    remove_ingest(Path(entry.path))

    def _release(self, reference: str) -> None:
        with self._lock:
            self._held.discard(reference)

    def _path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex

    def _ingest_path(self, reference: str) -> Path:
        return self._ingests / hashlib.sha256(reference.encode()).hexdigest()

    def _no_blob(self, digest: Digest) -> NotFound:
        return NotFound(f"look up {digest}: it is not in the content store", details={"kind": "blob"})


def _held_bytes(directory: Path) -> int:
    try:
        return (directory / "data").stat().st_size
    except FileNotFoundError:
        return 0


def _status(directory: Path) -> IngestStatus | None:
    """Return the status of an ingest, or None if it is gone or is not made to the end."""
    try:
        data = (directory / "data").stat()
        reference = (directory / "ref").read_bytes().decode()  # as it is, whatever ends its lines
        started = datetime.fromisoformat((directory / "startedat").read_text())
        total = directory / "total"
        total_bytes = int(total.read_text()) if total.exists() else None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    started_ns = int(started.timestamp() * 1e9)
    updated_ns = max(started_ns, data.st_mtime_ns)  # the kernel's clock for files goes in ticks of some milliseconds
    return IngestStatus(reference, data.st_size, total_bytes, started_ns, updated_ns)
