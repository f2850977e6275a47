"""Durable writes, and how they are counted."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from hythe import durable, tracing
from hythe.durable import SyncCount, current_syncs


def counted() -> SyncCount:
    """Count the fsyncs of this context from now on."""
    counter = SyncCount()
    current_syncs.set(counter)
    return counter


def test_atomic_write_replaces_content_and_mode(tmp_path: Path) -> None:
    """The new content and mode are there, and nothing else is left in the directory."""
    path = tmp_path / "file"
    path.write_text("old")
    durable.write_atomic(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_durable_write_costs_two_fsyncs(tmp_path: Path) -> None:
    """Content and name are made durable; a write that need not last costs none."""
    counter = counted()
    durable.write_atomic(tmp_path / "a", b"x")
    assert counter.count == 2
    durable.write_atomic(tmp_path / "b", b"x", durable=False)
    assert counter.count == 2


def test_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    """When the replacement can't be made, the old file stays and no temporary one is left."""
    path = tmp_path / "directory"
    path.mkdir()
    with pytest.raises(OSError):
        durable.write_atomic(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_each_kind_of_sync_is_counted(tmp_path: Path) -> None:
    """Data, file and directory syncs, and those done by others, count one each."""
    counter = counted()
    fd = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    durable.sync_data(fd)
    durable.sync_file(fd)
    os.close(fd)
    durable.sync_directory(tmp_path)
    durable.count_sync(2)
    assert counter.count == 5


def test_sync_outside_any_span_is_not_counted() -> None:
    """Counting needs no span to work."""
    current_syncs.set(None)
    durable.count_sync()
    assert current_syncs.get() is None


async def test_sync_in_a_thread_counts_for_the_span_that_waits(tmp_path: Path) -> None:
    """Work handed to a thread is counted on the span that awaits it, and an inner span counts for itself."""
    with tracing.span("outer"):
        outer = current_syncs.get()
        await asyncio.to_thread(durable.sync_directory, tmp_path)
        with tracing.span("inner"):
            durable.count_sync()
        assert outer is not None
        assert outer.count == 1
