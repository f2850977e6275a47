"""One blob on its way into a directory store: written once, hashed on its way, made durable before it gets its name."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hythe import clock, failpoints
from hythe.digest import Digest
from hythe.durable import sync_directory, sync_file, write_atomic
from hythe.errors import DataLoss, HytheError
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
        self._closing = threading.Lock()
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
        failpoints.reach("distribution.ingest.created")
        with reported(f"open ingest {self._reference}", self._directory):
            started = self._directory / "startedat"
            if not resume or not started.exists():
                _note(started, clock.now_rfc3339())
            if total_bytes is None:
                (self._directory / "total").unlink(missing_ok=True)
            else:
                _note(self._directory / "total", str(total_bytes))
            _note(self._directory / "ref", self._reference)  # the last: with it the ingest is listed
            failpoints.reach("distribution.ingest.described")
            buffer = memoryview(bytearray(MAX_CHUNK_BYTES if resume else 0))
            while count := os.readv(self._fd, [buffer]):
                self._verifier.update(buffer[:count])
            if self.offset:
                failpoints.reach("distribution.resume.rehashed")
        self._written_back = self.offset

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
                failpoints.reach("distribution.ingest.written")
                ahead = self.offset - self._written_back
                if ahead >= WRITEBACK_STEP_BYTES:
                    start_writeback(self._fd, self._written_back, ahead)
                    self._written_back += ahead
        except (HytheError, OSError):
            self._drop()
            raise

    def read_back(self, offset: int, length: int) -> bytes:
        """See `hythe.ports.content.Ingest.read_back`."""
        with self._closing:  # a number that was closed may be another file's already
            if self._fd < 0:
                return b""
            with reported(f"read {self._reference}", self._directory):
                return os.pread(self._fd, length, offset)

    def verify(self, expected: Digest | None = None, size_bytes: int | None = None) -> Digest:
        """Return the digest of what was written, if that is what was promised; it stays an ingest.

        Raises:
            DataLoss: another size or digest. The ingest is removed.
        """
        try:
            return self._verifier.check(expected, size_bytes)
        except DataLoss:
            self._drop()
            raise

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """See `hythe.ports.content.Ingest.commit`."""
        try:
            digest = self._verifier.check(expected, size_bytes)
            target = self._blobs / digest.hex
            with reported(f"commit {self._reference}", self._directory):
                if not target.exists():
                    os.fchmod(self._fd, 0o444)
                    sync_file(self._fd)
                    failpoints.reach("distribution.commit.synced")
                    (self._directory / "data").rename(target)
                    failpoints.reach("distribution.commit.renamed")
                sync_directory(self._blobs)
                failpoints.reach("distribution.commit.named")
                return BlobInfo(digest, self.offset, target.stat().st_mtime_ns)
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
        with self._closing:
            fd, self._fd = self._fd, -1
            os.close(fd)
        self._on_release()

    def __enter__(self) -> DirectoryIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _note(path: Path, text: str) -> None:
    """Have a small file say `text`; who reads it meanwhile never finds a part of that."""
    try:
        if path.read_text() == text:
            return
    except (FileNotFoundError, ValueError):
        pass
    write_atomic(path, text.encode(), durable=False)


def remove_ingest(directory: Path) -> None:
    """Remove an ingest's directory; what a read-only or failing disk keeps is never readable as a blob anyway."""
    shutil.rmtree(directory, ignore_errors=True)
