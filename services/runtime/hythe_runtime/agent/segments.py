"""The files of a journal: numbered segments allocated ahead, one spare that is always ready, snapshots that replace old ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hythe import durable
from hythe.errors import DataLoss
from hythe_runtime.agent import segment
from hythe_runtime.agent.segment import Part

_SUFFIX = ".segment"
_ZEROS = bytes(1 << 20)


class Segments:
    """One journal directory. `read` first, then `begin`; then `put`, `put_snapshot` and `sync`. Every method blocks.

    Attributes:
        frame_bytes: how large a payload may be.
        syncs: how many fsyncs of segments were done.
    """

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._spare = directory / "spare"
        self._segment_bytes = segment_bytes
        self._number = 0
        self._serial = 1
        self._fd = -1
        self._size = 0
        self._end = 0
        self._durable = 0
        self.frame_bytes = min(segment.MAX_PAYLOAD_BYTES, segment_bytes // 4)
        self.syncs = 0

    def __repr__(self) -> str:
        return f"Segments({self._directory}, segment {self._number}, {self._end} of {self._size} bytes)"

    def read(self) -> list[bytes]:
        """Return all lines that count: those of the last whole snapshot and those that came after it.

        Raises:
            DataLoss: what had been made durable is damaged or missing; a torn end is neither.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines: list[bytes] = []
        snapshot: list[bytes] | None = None
        whole = False
        serial: int | None = None
        for path in self._paths():
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
        return lines

    def begin(self, lines: list[bytes]) -> None:
        """Begin a new segment with a snapshot of `lines`, which replaces all that is there.

        Raises:
            OSError: no room.
        """
        self._number = max((_number(path) for path in self._paths()), default=0)
        self._switch()
        self.put_snapshot(lines)
        self._make_spare()

    def put(self, payload: bytes, part: int = Part.ENTRIES) -> bool:
        """Write one frame; tell whether a new segment had to be begun for it: then all before it is durable.

        Raises:
            OSError: with ENOSPC or EDQUOT nothing was written, and a smaller payload may fit.
        """
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

    def put_snapshot(self, lines: list[bytes]) -> None:
        """Write a snapshot, and when it is durable drop the segments that it replaces, keeping one as the spare.

        Raises:
            OSError: with ENOSPC or EDQUOT the old segments still count.
        """
        first = Part.SNAPSHOT | Part.SNAPSHOT_FIRST
        before = self._number
        payloads = [b"\n".join(group) for group in _groups(lines, self.frame_bytes)]
        for i, payload in enumerate(payloads):
            part = (first if i == 0 else Part.SNAPSHOT) | (Part.SNAPSHOT_LAST if i == len(payloads) - 1 else 0)
            self.put(payload, part)
        self.sync()
        for path in self._paths():
            if _number(path) >= before:
                continue
            if self._spare.exists() or path.stat().st_size != self._segment_bytes:
                path.unlink()
            else:
                path.rename(self._spare)

    def sync(self) -> None:
        """Make everything that was put durable."""
        os.fdatasync(self._fd)
        self.syncs += 1
        self._durable = self._end

    def close(self) -> None:
        """Write no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _switch(self) -> None:
        """Go on in the next segment; all before is made durable first."""
        if self._fd >= 0:
            self.sync()
        self._make_spare()
        path = self._path(self._number + 1)
        self._spare.rename(path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        durable.sync_directory(self._directory)
        self.close()
        self._number += 1
        self._fd, self._size, self._end, self._durable = fd, os.fstat(fd).st_size, 0, 0

    def _make_spare(self) -> None:
        """Allocate the next segment, written over once: later writes then change no file system metadata."""
        if self._spare.exists():
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
        temporary.rename(self._spare)

    def _paths(self) -> list[Path]:
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
