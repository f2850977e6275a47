"""The agent's journal on disk: appended to in order by one thread, which makes many appends durable by one fsync.

Entries are journaled before the act that they announce (ARCHITECTURE §6). Segments are allocated ahead, and one spare
is always ready, so that stops and exits can be recorded on a full disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hythe import durable
from hythe.errors import DataLoss, HytheError, Internal, ResourceExhausted
from hythe_runtime.agent import entries as codec
from hythe_runtime.agent import segment
from hythe_runtime.agent.entries import Entry
from hythe_runtime.agent.segment import Part

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 << 20
LAZY_SYNC_S = 0.05
_SUFFIX = ".segment"
_ZEROS = bytes(1 << 20)
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
    """One journal directory. `read` first, then `start`; `append` from the event loop; `close` at the end.

    Attributes:
        syncs: how many fsyncs were done.
    """

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._frame_bytes = min(segment.MAX_PAYLOAD_BYTES, segment_bytes // 4)
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._snapshot: Callable[[], Sequence[Entry]] = lambda: ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: HytheError | None = None
        self._number = 0
        self._serial = 1
        self._fd = -1
        self._size = 0
        self._end = 0
        self._durable = 0
        self._unsynced: list[_Append] = []
        self._unsynced_since = 0.0
        self.syncs = 0

    def __repr__(self) -> str:
        return f"Journal({self._directory}, segment {self._number}, {self._end} of {self._size} bytes)"

    def read(self) -> list[Entry]:
        """Return all entries that count: the last whole snapshot and what came after it. Blocks.

        Raises:
            DataLoss: what had been made durable is damaged; a torn end is not damage.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines: list[bytes] = []
        snapshot: list[bytes] | None = None
        whole = False
        serial: int | None = None
        for path in self._segments():
            for frame in segment.read(path.read_bytes(), _number(path), serial, str(path)):
                serial = frame.serial + 1
                found = frame.payload.split(b"\n") if frame.payload else []
                if frame.part == Part.ENTRIES:
                    lines += found
                    continue
                if frame.part & Part.SNAPSHOT_FIRST:
                    snapshot = []
                if snapshot is not None:
                    snapshot += found
                    if frame.part & Part.SNAPSHOT_LAST:
                        lines, snapshot, whole = snapshot, None, True
        if serial is not None and not whole:
            raise DataLoss(f"read {self._directory}: its first segments are missing")
        self._serial = serial or 1
        return [codec.decode(line) for line in lines]

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
        old = self._segments()
        self._number = max((_number(path) for path in old), default=0)
        self._switch()
        self._write_snapshot([codec.encode(entry) for entry in now])
        self._make_spare()
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
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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
            self._write_snapshot([codec.encode(entry) for entry in snapshot.entries])
        except OSError as error:
            if error.errno not in _FULL:
                raise
            log.warning("the journal was not compacted: the disk is full", extra={"cause": str(error)})

    def _write_group(self, items: list[_Append]) -> None:
        """Write as many items as go into one frame, then the rest: an item is never split between frames."""
        group: list[_Append] = []
        size = 0
        for item in items:
            length = sum(map(len, item.lines)) + len(item.lines)
            if length > self._frame_bytes:
                error = ResourceExhausted(f"append to the journal: {length} bytes are too many for one entry")
                self._resolve([item], error)
                continue
            if size + length > self._frame_bytes:
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
            switched = self._put(Part.ENTRIES, payload)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            full = ResourceExhausted("append to the journal: the disk is full", cause=str(error), outcome="not started")
            self._resolve(items, full)
            return
        if not self._unsynced:
            self._unsynced_since = time.monotonic()
        self._unsynced += items
        if switched and self._loop is not None:
            self._loop.call_soon_threadsafe(self._compact)

    def _compact(self) -> None:
        """Queue a snapshot; it stands for exactly the appends queued before it, for all come from the event loop."""
        self._queue.put(_Snapshot(self._snapshot()))

    def _put(self, part: int, payload: bytes) -> bool:
        """Write one frame; tell whether a new segment had to be begun for it."""
        switched = False
        if self._end + segment.HEADER_BYTES + len(payload) > self._size:
            self._switch()
            switched = True
        frame = segment.encode(self._number, self._serial, self._durable, part, payload)
        if os.pwrite(self._fd, frame, self._end) != len(frame):
            raise OSError(f"short write to {self._path(self._number)}")
        self._end += len(frame)
        self._serial += 1
        return switched

    def _write_snapshot(self, lines: list[bytes]) -> None:
        """Write a snapshot, and when it is durable drop the segments that it replaces, keeping one as the spare."""
        first = Part.SNAPSHOT | Part.SNAPSHOT_FIRST
        before = self._number
        payloads = [b"\n".join(group) for group in _groups(lines, self._frame_bytes)]
        for i, payload in enumerate(payloads):
            part = (first if i == 0 else Part.SNAPSHOT) | (Part.SNAPSHOT_LAST if i == len(payloads) - 1 else 0)
            self._put(part, payload)
        self._sync()
        spare = self._directory / "spare"
        for path in self._segments():
            if _number(path) >= before:
                continue
            if spare.exists() or path.stat().st_size != self._segment_bytes:
                path.unlink()
            else:
                path.rename(spare)

    def _sync(self) -> None:
        os.fdatasync(self._fd)
        self.syncs += 1
        self._durable = self._end
        items, self._unsynced = self._unsynced, []
        self._resolve(items, None)

    def _switch(self) -> None:
        """Go on in the next segment; all before is made durable first."""
        if self._fd >= 0:
            self._sync()
        self._make_spare()
        path = self._path(self._number + 1)
        (self._directory / "spare").rename(path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        durable.sync_directory(self._directory)
        if self._fd >= 0:
            os.close(self._fd)
        self._number += 1
        self._fd, self._size, self._end, self._durable = fd, os.fstat(fd).st_size, 0, 0

    def _make_spare(self) -> None:
        """Allocate the next segment, written over once: later writes then change no file system metadata."""
        spare = self._directory / "spare"
        if spare.exists():
            return
        temporary = self._directory / "spare.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._segment_bytes)
            for start in range(0, self._segment_bytes, len(_ZEROS)):
                os.pwrite(fd, _ZEROS[: self._segment_bytes - start], start)
            os.fsync(fd)
        except OSError:
            temporary.unlink()
            raise
        finally:
            os.close(fd)
        temporary.rename(spare)

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

    def _segments(self) -> list[Path]:
        return sorted(self._directory.glob(f"*{_SUFFIX}"), key=_number)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08}{_SUFFIX}"


def _number(path: Path) -> int:
    return int(path.name.removesuffix(_SUFFIX))


def _groups(lines: list[bytes], most_bytes: int) -> Iterable[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and size + len(line) + 1 > most_bytes:
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line) + 1
    yield group


def _settle(futures: list[asyncio.Future[None]], error: HytheError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
