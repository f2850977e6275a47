"""Sends a container's output over an io channel, from its log, within the receiver's credit (ARCHITECTURE §3).

A sender holds no bytes of its own: what the receiver wants again is read again. Nothing here is ever waited for by the
container; a receiver that gives no credit for long is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass

from hythe.errors import Unavailable
from hythe_runtime.agent.logtail import LogStream
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.ports import IoTransport

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
GIVE_UP_S = 300.0
LINGER_S = 10.0
REPEAT_S = 3.0
RETRY_S = 0.2
DAMAGED = "some lines of the log were damaged and are left out"


@dataclass(frozen=True, slots=True)
class Channel:
    """An io channel as its opener named it; `credit_bytes` is the first credit of each output stream."""

    namespace: str
    id: str
    credit_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """How the log shall be shown; `tail_lines` None shows all, `follow` goes on until the container ends."""

    follow: bool = True
    tail_lines: int | None = None
    timestamps: bool = False


class _Stream:
    """One output stream of a channel: what was sent and how far the receiver lets us."""

    def __init__(self, name: str, log_stream: LogStream, credit: int) -> None:
        self.name = name
        self.log = log_stream
        self.until = credit
        self.have = 0

    def credit(self, have: int, until: int, resend: bool) -> None:
        if not self.have <= have <= self.log.offset:
            have = self.have
        self.have = have
        self.until = max(self.until, until)
        if resend:
            self.log.rewind(have)
        self.log.acknowledge(have)

    @property
    def room(self) -> int:
        return self.until - self.log.offset


class OutputSender:
    """Sends one log over one channel. `run` once; `credit` and `wake` whenever there is something new.

    Attributes:
        told: the final offsets of stdout and stderr, once the end was told or the receiver was left; None if cancelled.
    """

    def __init__(self, transport: IoTransport, channel: Channel, fd: int, start: int, view: View) -> None:
        self._transport = transport
        self._channel = channel
        stop = None if view.follow else os.fstat(fd).st_size
        self._streams = [
            _Stream(name, LogStream(fd, name, start, stop, timestamps=view.timestamps), channel.credit_bytes)
            for name in ("stdout", "stderr")
        ]
        self.told: asyncio.Future[tuple[int, int] | None] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._exit: Exit | None = None if view.follow else Exit(None)
        self._mark = False
        self._heard = time.monotonic()
        self._told_at = 0.0

    def credit(self, stream: str, have: int, until: int, *, resend: bool) -> None:
        """Take the receiver's word: it has all below `have`, takes all below `until`, and may want `have` on again."""
        for known in self._streams:
            if known.name == stream:
                known.credit(have, until, resend)
        self._heard = time.monotonic()
        self._wake.set()

    def wake(self) -> None:
        """The log has grown."""
        self._wake.set()

    def bus_is_back(self) -> None:
        """Say where each stream is, so that the receiver sees what it missed meanwhile."""
        self._mark = True
        self._wake.set()

    def ended(self, exit: Exit) -> None:
        """The container has ended so; the log grows no more."""
        if self._exit is None:
            self._exit = exit
            self._wake.set()

    async def run(self) -> None:
        """Send everything, then the end.

        The end is told after the last byte was sent, or not at all when the receiver gave no credit for 5 minutes.
        After the end it stays for 10 s, or until everything is acknowledged, to send again what the receiver missed.
        """
        while True:
            self._wake.clear()
            over = self._exit
            try:
                if await self._send():
                    continue
                withheld = await self._withheld()
                if over is not None and not withheld:
                    await self._tell_end(over)
                    if await self._linger():
                        continue
                    return
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if not await self._sleep(withheld):
                log.info("left a client that takes no output", extra={"channel": self._channel.id})
                self._resolve()
                return

    async def _send(self) -> bool:
        if self._mark:
            await self._send_marks()
        sent = False
        for stream in self._streams:
            room = min(stream.room, CHUNK_BYTES)
            if room <= 0:
                continue
            offset = stream.log.offset
            data = await stream.log.take(room)
            if not data:
                continue
            try:
                await self._transport.send(self._channel.namespace, self._channel.id, stream.name, offset, data)
            except Unavailable:
                stream.log.rewind(offset)
                raise
            sent = True
        if sent:
            await asyncio.sleep(0)
        return sent

    async def _send_marks(self) -> None:
        """Send an empty chunk of each stream: to a receiver that missed bytes before it, it is a gap."""
        for stream in self._streams:
            offset = stream.log.offset
            await self._transport.send(self._channel.namespace, self._channel.id, stream.name, offset, b"")
        self._mark = False

    async def _withheld(self) -> bool:
        """Tell whether the log has bytes that the receiver gives no credit for."""
        for stream in self._streams:
            if stream.room <= 0 and await stream.log.more():
                return True
        return False

    async def _sleep(self, withheld: bool) -> bool:
        """Wait for something new; False when the receiver has been silent for too long while bytes wait for it."""
        timeout_s = max(0.0, self._heard + GIVE_UP_S - time.monotonic()) if withheld else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _tell_end(self, exit: Exit) -> None:
        out, err = self._streams
        gap = DAMAGED if out.log.damaged or err.log.damaged else ""
        await self._transport.end(self._channel.namespace, self._channel.id, exit, out.log.offset, err.log.offset, gap)
        self._resolve()

    def _resolve(self) -> None:
        if not self.told.done():
            self._told_at = time.monotonic()
            self.told.set_result((self._streams[0].log.offset, self._streams[1].log.offset))

    async def _linger(self) -> bool:
        """Stay for a receiver that missed something; True when it is to be sent something again.

        The end is told again each 3 s to one that is silent since: it may have missed even that.
        """
        if self._heard > self._told_at and all(stream.have >= stream.log.offset for stream in self._streams):
            return False
        try:
            async with asyncio.timeout(REPEAT_S):
                await self._wake.wait()
        except TimeoutError:
            return time.monotonic() < self._told_at + LINGER_S
        return True
