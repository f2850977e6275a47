"""One blob on its way into a directory store: written once, hashed on its way, made durable before it gets its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hythe import clock, failpoints
from hythe.digest import Digest
from hythe.durable import sync_directory, sync_file
from hythe.errors import HytheError
from hythe.ports.content import MAX_CHUNK_BYTES, BlobInfo
from hythe.writeback import WRITEBACK_STEP_BYTES, start_writeback
from hythe_distribution.adapters.disk_errors import reported
from hythe_distribution.verifier import Verifier


class DirectoryIngest:
    """A body of `hythe.ports.content.Ingest`: ``data``, ``ref``, ``startedat``, ``updatedat`` and ``total`` in a directory."""

    def __init__(
        self,
        directory: Path,
        blobs: Path,
        reference: str,
        total_bytes: int | None,
        *,
        resume: bool,
        on_release: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._reference = reference
        self._on_release = on_release
        self._verifier = Verifier(reference, total_bytes)
        self._written_back = 0
        with reported(f"open ingest {reference}", directory):
            directory.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if resume else os.O_TRUNC)
            self._fd = os.open(directory / "data", flags, 0o600)
        try:
            self._take_up(resume, total_bytes)
        except (HytheError, OSError):
            self._drop()
            raise

    def _take_up(self, resume: bool, total_bytes: int | None) -> None:
        with reported(f"open ingest {self._reference}", self._directory):
            now = clock.now_rfc3339()
            started = self._directory / "startedat"
            if not resume or not started.exists():
                started.write_text(now)
            (self._directory / "ref").write_text(self._reference)
            total = self._directory / "total"
            if total_bytes is None:
                total.unlink(missing_ok=True)
            else:
                total.write_text(str(total_bytes))
            while chunk := os.read(self._fd, MAX_CHUNK_BYTES):
                self._verifier.update(chunk)
        self._written_back = self._verifier.seen_bytes

    @property
    def offset(self) -> int:
        """See `hythe.ports.content.Ingest.offset`."""
        return self._verifier.seen_bytes

    def write(self, data: bytes | memoryview) -> None:
        """See `hythe.ports.content.Ingest.write`."""
        try:
            self._verifier.update(data)
            with reported(f"write {self._reference}", self._directory):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
                ahead = self.offset - self._written_back
                if ahead >= WRITEBACK_STEP_BYTES:
                    start_writeback(self._fd, self._written_back, ahead)
                    self._written_back += ahead
        except (HytheError, OSError):
            self._drop()
            raise

    def read_back(self, offset: int, length: int) -> bytes:
        """See `hythe.ports.content.Ingest.read_back`."""
        return os.pread(self._fd, length, offset)

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """See `hythe.ports.content.Ingest.commit`."""
        expected = expected or self._verifier.digest
        size_bytes = self.offset if size_bytes is None else size_bytes
        target = self._blobs / expected.hex
        try:
            self._verifier.check(expected, size_bytes)
            with reported(f"commit {self._reference}", self._directory):
                if not target.exists():
                    os.fchmod(self._fd, 0o444)
                    sync_file(self._fd)
                    failpoints.reach("distribution.commit.synced")
                    (self._directory / "data").rename(target)
                    failpoints.reach("distribution.commit.renamed")
                sync_directory(self._blobs)
                return BlobInfo(expected, size_bytes, target.stat().st_mtime_ns)
        finally:
            self._drop()

    def abort(self) -> None:
        """See `hythe.ports.content.Ingest.abort`."""
        self._drop()

    def close(self) -> None:
        """See `hythe.ports.content.Ingest.close`."""
        if self.offset == 0:
            self._drop()
        if self._fd < 0:
            return
        try:
            (self._directory / "updatedat").write_text(clock.now_rfc3339())
        except OSError:
            pass  # only containerd's tools read it; our own take the time of the data
        self._release()

    def _drop(self) -> None:
        if self._fd < 0:
            return
        remove_ingest(self._directory)
        self._release()

    def _release(self) -> None:
        os.close(self._fd)
        self._fd = -1
        self._on_release()

    def __enter__(self) -> DirectoryIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_ingest(directory: Path) -> None:
    """Remove an ingest's directory; what a read-only or failing disk keeps is never readable as a blob anyway."""
    shutil.rmtree(directory, ignore_errors=True)
