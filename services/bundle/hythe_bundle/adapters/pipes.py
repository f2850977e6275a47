"""What a process writes handed on while it writes, with nothing of it on a disk."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

Sink = Callable[[bytes], Awaitable[None]]
Work = Callable[[int, Callable[[], None]], Awaitable[T]]

PIECE_BYTES = 4 << 20
PIPE_BYTES = 1 << 20


async def through_pipe(work: Work[T], sink: Sink) -> T:
    """Hand all on to `sink` that a process of `work` writes, and return what `work` does.

    The first of both that fails, or a cancelled caller, ends both, and nobody goes on before they have.

    Args:
        work: told the descriptor that its process is to write to, and what to call once the process has it. It must not
            leave, however it ends, before the process is gone.
        sink: takes pieces of 4 MiB, the last may be smaller; the next is read while it is at it.
    """
    with _Pipe() as pipe:
        works = (
            asyncio.ensure_future(pipe.empty(sink)),
            asyncio.ensure_future(work(pipe.writing, pipe.close_writing)),
        )
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            return works[1].result()
        finally:
            works[1].cancel()
            await asyncio.wait([works[1]])
            pipe.close_writing()  # with the process's end closed as well, a thread that reads comes back
            works[0].cancel()
            await asyncio.wait(works)
            await pipe.settled()


class _Pipe:
    """A pipe, closed when the block ends."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        self._piece: asyncio.Task[bytes] | None = None
        fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_writing()
        os.close(self._reading)

    def close_writing(self) -> None:
        """Close the end that is the process's; may be repeated."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    async def empty(self, sink: Sink) -> None:
        """Hand all that comes on to `sink`; the next piece is read while the one before is handed on."""
        self._piece = self._read()
        while piece := await asyncio.shield(self._piece):
            self._piece = self._read()
            await sink(piece)

    def _read(self) -> asyncio.Task[bytes]:
        return asyncio.create_task(asyncio.to_thread(_read_piece, self._reading))

    async def settled(self) -> None:
        """Wait until no thread reads any more: a descriptor must not be closed under it."""
        if self._piece is not None:
            await asyncio.wait([self._piece])


def _read_piece(fd: int) -> bytes:
    """Return the next 4 MiB, less only at the end."""
    pieces: list[bytes] = []
    size = 0
    while size < PIECE_BYTES and (data := os.read(fd, PIECE_BYTES - size)):
        pieces.append(data)
        size += len(data)
    return b"".join(pieces)
