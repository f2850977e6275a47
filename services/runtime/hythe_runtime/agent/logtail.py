"""A container's log as the byte streams that it was made from.

conmon writes one line for each line of output: ``<time> <stream> F <bytes>``, or ``P`` where the output's line went on.
Taking the ``F`` lines with their newline and the ``P`` lines without gives back the exact bytes of a stream.

Spec: Kubernetes CRI log format, as conmon's driver k8s-file writes it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from dataclasses import dataclass

BLOCK_BYTES = 64 << 10
MAX_LINE_BYTES = 1 << 20
CHECKPOINT_BYTES = 32 << 10

_START = re.compile(rb"^[^ \n]+ (?:stdout|stderr) ([PF]) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """Where reading can begin again: `position` in the file is byte `offset` of the stream."""

    offset: int
    position: int
    mid_line: bool


class LogStream:
    """One stream of one log, read from its start and again from any byte that was not acknowledged.

    Holds at most two blocks of the log and one checkpoint for each 32 KiB that are not acknowledged.

    Attributes:
        damaged: some lines were no log lines, and were left out.
    """

    def __init__(
        self, fd: int, name: str, start: int = 0, stop: int | None = None, *, timestamps: bool = False
    ) -> None:
        """Read stream `name` (``stdout`` or ``stderr``) of the log open at `fd`.

        Args:
            start: first byte of the file to read.
            stop: byte of the file to end before; None for no end.
            timestamps: begin each line of the stream with its time and a blank.
        """
        self._fd = fd
        self._stop = stop
        self._timestamps = timestamps
        self._token = b" %s " % name.encode()
        self._whole = re.compile(b"^[^ \\n]+%sF " % self._token, re.MULTILINE)
        self._line = re.compile(b"^([^ \\n]+)%s([PF]) ([^\\n]*)\\n" % self._token, re.MULTILINE)
        self._other_token = b" stderr " if name == "stdout" else b" stdout "
        self._others = re.compile(b"^[^ \\n]+%s[PF] " % self._other_token, re.MULTILINE)
        self._start = start
        self._position = start
        self._pending = memoryview(b"")
        self._checkpoints = deque([_Checkpoint(0, start, False)])
        self._mid_line = False
        self._skip = 0
        self.offset = 0
        self.damaged = False

    async def take(self, most: int) -> bytes:
        """Return up to `most` bytes from `offset` on, and move it; empty when the log has no more now."""
        while not self._pending:
            if not await self._fill():
                return b""
        data = bytes(self._pending[:most])
        self._pending = self._pending[len(data) :]
        self.offset += len(data)
        return data

    async def more(self) -> bool:
        """Tell whether the log has bytes beyond `offset` now."""
        while not self._pending:
            if not await self._fill():
                return False
        return True

    def acknowledge(self, offset: int) -> None:
        """Forget how to read bytes before `offset` again."""
        while len(self._checkpoints) > 1 and self._checkpoints[1].offset <= offset:
            self._checkpoints.popleft()

    def rewind(self, offset: int) -> None:
        """Go on from byte `offset`, which must not be beyond the present offset; that of an older one costs a new reading."""
        if self._checkpoints[0].offset > offset:
            self._checkpoints = deque([_Checkpoint(0, self._start, False)])
        while len(self._checkpoints) > 1 and self._checkpoints[-1].offset > offset:
            self._checkpoints.pop()
        begin = self._checkpoints[-1]
        self._position, self._mid_line, self._skip = begin.position, begin.mid_line, offset - begin.offset
        self._pending = memoryview(b"")
        self.offset = offset

    async def _fill(self) -> bool:
        """Take in the next block of whole lines; tell whether there was one."""
        size = BLOCK_BYTES
        while True:
            data = await self._read(size)
            end = data.rfind(b"\n") + 1
            if end or len(data) < size:
                break
            size *= 2  # a line longer than a block
            if size > MAX_LINE_BYTES:
                self.damaged = True
                end = len(data)
                break
        if not end:
            return False
        self._mark()
        self._position += end
        text = self._extract(data[:end])
        dropped = min(self._skip, len(text))
        self._skip -= dropped
        self._pending = memoryview(text)[dropped:]
        if not self._pending:
            await asyncio.sleep(0)  # much of a log may be the other stream's: let others work between its blocks
        return True

    def _mark(self) -> None:
        if self._skip:
            return
        last = self._checkpoints[-1]
        if self.offset == last.offset and self._position > last.position:
            self._checkpoints[-1] = _Checkpoint(self.offset, self._position, self._mid_line)
        elif self.offset >= last.offset + CHECKPOINT_BYTES:
            self._checkpoints.append(_Checkpoint(self.offset, self._position, self._mid_line))

    async def _read(self, size: int) -> bytes:
        if self._stop is not None:
            size = max(0, min(size, self._stop - self._position))
        buffer = bytearray(size)
        try:
            count = os.preadv(self._fd, [buffer], self._position, os.RWF_NOWAIT)
        except OSError:  # not in the page cache, or a file system that cannot tell
            count = 0
        if count < size and self._position + count < os.fstat(self._fd).st_size:
            return await asyncio.to_thread(os.pread, self._fd, size, self._position)
        return bytes(buffer[:count])

    def _extract(self, block: bytes) -> bytes:
        if self._token not in block:  # the reader of the other stream looks at these lines, if they are any
            self.damaged = self.damaged or self._other_token not in block
            return b""
        lines = block.count(b"\n")
        if not self._timestamps:
            text, replaced = self._whole.subn(b"", block)
            if replaced == lines > 0:
                return text
        parts: list[bytes] = []
        seen = 0
        for match in self._line.finditer(block):
            time, flag, content = match.groups()
            seen += 1
            if self._timestamps and not self._mid_line:
                parts += (time, b" ")
            parts.append(content)
            self._mid_line = flag == b"P"
            if not self._mid_line:
                parts.append(b"\n")
        if seen + len(self._others.findall(block)) < lines:
            self.damaged = True
        return b"".join(parts)


def start_of_last(fd: int, lines: int) -> int:
    """Return where in the log the last `lines` lines of output begin, both streams taken together. Blocks."""
    end = os.fstat(fd).st_size
    if lines == 0:
        return end
    position, tail, size = end, b"", BLOCK_BYTES
    while position > 0:
        size = min(size, position)
        position -= size
        tail = os.pread(fd, size, position) + tail
        size *= 4
        whole_from = tail.find(b"\n") + 1 if position else 0  # before that it may be half a line
        starts = [(match.start(), match[1]) for match in _START.finditer(tail, whole_from)]
        ends = [i for i, (_, flag) in enumerate(starts) if flag == b"F" or i == len(starts) - 1]
        if len(ends) > lines:
            return position + starts[ends[-lines - 1] + 1][0]
    return 0
