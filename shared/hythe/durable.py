"""Durable file writes, each counted on the span that waits for it (``hythe.fsyncs``)."""

from __future__ import annotations

import contextvars
import os
import tempfile
from pathlib import Path


class SyncCount:
    """How many fsyncs were done on behalf of one span; shared by reference with worker threads."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


current_syncs: contextvars.ContextVar[SyncCount | None] = contextvars.ContextVar("hythe_syncs", default=None)


def count_sync(number: int = 1) -> None:
    """Add `number` fsyncs to the span in progress, if there is one; the span bears it as ``hythe.fsyncs``."""
    counter = current_syncs.get()
    if counter is not None:
        counter.count += number


def sync_data(fd: int) -> None:
    """Make the data of `fd` durable (fdatasync) and count it."""
    os.fdatasync(fd)
    count_sync()


def sync_file(fd: int) -> None:
    """Make data and metadata of `fd` durable (fsync) and count it."""
    os.fsync(fd)
    count_sync()


def sync_directory(path: Path) -> None:
    """Make the names in directory `path` durable; needed after each rename into it (containerd#10457)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    count_sync()


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by `data` so that a reader, or a crash, sees the old content or the new, never a part.

    With `durable` the content and the name survive power loss when this returns (two fsyncs).
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        try:
            os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                sync_file(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)
