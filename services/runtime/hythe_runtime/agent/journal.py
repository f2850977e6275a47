"""The agent's journal on disk: appended to in order by one thread, which makes many appends durable by one fsync.

Entries are journaled before the act that they announce (ARCHITECTURE §6). Segments are allocated ahead, so that stops and
exits can be recorded on a full disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hythe.errors import HytheError, Internal, ResourceExhausted
from hythe_runtime.agent import entries as codec
from hythe_runtime.agent.entries import Entry
from hythe_runtime.agent.segments import Segments

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 << 20
LAZY_SYNC_S = 0.05
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Append:
    lines: list[bytes]
    urgent: bool
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Snapshot:
    entries: Sequence[Entry]


_Work: TypeAlias = _Append | _Snapshot | None


class Journal:
    """One journal directory. `read` first, then `start`; `append` from the event loop; `close` at the end."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._segments = Segments(directory, segment_bytes)
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._snapshot: Callable[[], Sequence[Entry]] = lambda: ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: HytheError | None = None
        self._unsynced: list[_Append] = []
        self._unsynced_since = 0.0

    def __repr__(self) -> str:
        return f"Journal({self._segments})"

    @property
    def syncs(self) -> int:
        """How many fsyncs were done."""
        return self._segments.syncs

    def read(self) -> list[Entry]:
        """Return all entries that count: the last whole snapshot and what came after it. Blocks.

        Raises:
            DataLoss: what had been made durable is damaged or missing; a torn end is neither.
        """
        return [codec.decode(line) for line in self._segments.read()]

    def start(
        self, loop: asyncio.AbstractEventLoop, now: Sequence[Entry], snapshot: Callable[[], Sequence[Entry]]
    ) -> None:
        """Begin a new segment with a snapshot, drop the old ones, and take appends from now on. Blocks.

        Args:
            loop: the event loop that `append` is called in.
            now: entries that add up to what `read` returned.
            snapshot: gives entries that add up to everything appended so far; called in the event loop.

        Raises:
            ResourceExhausted: there is no room.
        """
        self._loop = loop
        self._snapshot = snapshot
        try:
            self._segments.begin([codec.encode(entry) for entry in now])
        except OSError as error:
            raise ResourceExhausted(
                f"begin to write {self._segments}", cause=str(error), next_step="make room on the disk of HYTHE_ROOT"
            ) from error
        self._thread = threading.Thread(target=self._write_for_ever, name="journal", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[Entry], *, urgent: bool) -> asyncio.Future[None]:
        """Append `entries`, all or none, after all appends before; the future is done when they are durable.

        An append that is not `urgent` is made durable with the next that is, or within 50 ms.

        Raises (by the future):
            ResourceExhausted: no room; nothing was appended.
            Internal: the disk failed; nothing can be appended any more.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Append([codec.encode(entry) for entry in entries], urgent, done))
        return done

    def close(self) -> None:
        """Make everything durable and stop. Blocks."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._segments.close()

    def _write_for_ever(self) -> None:
        going = True
        while going:
            items = self._take()
            going = None not in items
            try:
                if self._failure is not None:
                    raise self._failure
                self._write(items)
                if self._unsynced and (not going or self._sync_is_due()):
                    self._sync()
            except (OSError, HytheError) as error:
                self._fail([item for item in items if isinstance(item, _Append)], error)

    def _take(self) -> list[_Work]:
        wait_s = None
        if self._unsynced:
            wait_s = max(0.0, self._unsynced_since + LAZY_SYNC_S - time.monotonic())
        items: list[_Work] = []
        try:
            items.append(self._queue.get(timeout=wait_s))
            while True:
                items.append(self._queue.get_nowait())
        except queue.Empty:
            return items

    def _sync_is_due(self) -> bool:
        urgent = any(item.urgent for item in self._unsynced)
        return urgent or time.monotonic() >= self._unsynced_since + LAZY_SYNC_S

    def _write(self, items: list[_Work]) -> None:
        waiting: list[_Append] = []
        for item in items:
            if isinstance(item, _Append):
                waiting.append(item)
            elif item is not None:
                self._write_group(waiting)
                waiting = []
                self._replace_old_segments(item)
        self._write_group(waiting)

    def _replace_old_segments(self, snapshot: _Snapshot) -> None:
        try:
            self._segments.put_snapshot([codec.encode(entry) for entry in snapshot.entries])
        except OSError as error:
            if error.errno not in _FULL:
                raise
            log.warning("the journal was not compacted: the disk is full", extra={"cause": str(error)})
            return
        self._resolve_unsynced()

    def _write_group(self, items: list[_Append]) -> None:
        """Write as many items as go into one frame, then the rest: an item is never split between frames."""
        group: list[_Append] = []
        size = 0
        for item in items:
            length = sum(map(len, item.lines)) + len(item.lines)
            if length > self._segments.frame_bytes:
                error = ResourceExhausted(f"append to the journal: {length} bytes are too many for one entry")
                self._resolve([item], error)
                continue
            if size + length > self._segments.frame_bytes:
                self._write_frame(group)
                group, size = [], 0
            group.append(item)
            size += length
        self._write_frame(group)

    def _write_frame(self, items: list[_Append]) -> None:
        if not items:
            return
        payload = b"\n".join(line for item in items for line in item.lines)
        try:
            switched = self._segments.put(payload)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            full = ResourceExhausted("append to the journal: the disk is full", cause=str(error), outcome="not started")
            self._resolve(items, full)
            return
        if switched:
            self._resolve_unsynced()
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._compact)
        if not self._unsynced:
            self._unsynced_since = time.monotonic()
        self._unsynced += items

    def _compact(self) -> None:
        """Queue a snapshot; it stands for exactly the appends queued before it, for all come from the event loop."""
        self._queue.put(_Snapshot(self._snapshot()))

    def _sync(self) -> None:
        self._segments.sync()
        self._resolve_unsynced()

    def _resolve_unsynced(self) -> None:
        items, self._unsynced = self._unsynced, []
        self._resolve(items, None)

    def _fail(self, items: list[_Append], error: OSError | HytheError) -> None:
        """After a failed write nobody knows what is on disk: take no more until the journal is read again."""
        if self._failure is None:
            self._failure = Internal("append to the journal: the disk failed", cause=str(error), outcome="unknown")
            log.critical("the journal failed; restart the agent when the disk is well", extra={"cause": str(error)})
        waiting, self._unsynced = [*self._unsynced, *items], []
        self._resolve(waiting, self._failure)

    def _resolve(self, items: Iterable[_Append], error: HytheError | None) -> None:
        futures = [item.done for item in items]
        if futures and self._loop is not None:
            self._loop.call_soon_threadsafe(_settle, futures, error)


def _settle(futures: list[asyncio.Future[None]], error: HytheError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
