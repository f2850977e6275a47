"""Sends a container's output over an io channel, from its log, within the receiver's credit (ARCHITECTURE §3).

A sender holds no bytes of its own: what the receiver wants again is read again. Nothing here is ever waited for by the
container; a receiver that gives no credit for long is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hythe.errors import Conflict, NotFound, Unavailable
from hythe_runtime.agent.logtail import LogStream, start_of_last
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.ports import IoTransport, Sender

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
GIVE_UP_S = 300.0
LINGER_S = 10.0
REPEAT_S = 3.0
RETRY_S = 0.2
DAMAGED = "some lines of the log were damaged and are left out"


class FileWatches(Protocol):
    """Tells when a file is written to."""

    def watch(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each write from now on; return what ends that."""


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


class Outputs:
    """All senders of this agent, by channel."""

    def __init__(self, transport: IoTransport, watches: FileWatches) -> None:
        self._transport = transport
        self._watches = watches
        self._senders: dict[tuple[str, str], Sender] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    @property
    def count(self) -> int:
        """How many channels are open."""
        return len(self._senders)

    async def open(self, channel: Channel, path: Path, view: View, exit: asyncio.Future[Exit]) -> OutputSender | None:
        """Send the log at `path` over `channel` in a task of its own; None if that channel is being sent already.

        Args:
            exit: how the container ends; when it is cancelled, so is the sending, without an end.

        Raises:
            NotFound: there is no log.
        """
        key = (channel.namespace, channel.id)
        if key in self._senders:
            return None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"open the log {path.name}: there is none", details={"kind": "log"}) from None
        start = 0
        if view.tail_lines is not None:
            start = await asyncio.to_thread(start_of_last, fd, view.tail_lines)
        sender = OutputSender(self._transport, channel, fd, start, view)
        task = asyncio.get_running_loop().create_task(sender.run(), name=f"output {channel.id}")
        stop_watching = self._watches.watch(Path(f"/proc/self/fd/{fd}"), sender.wake)

        def over(done: asyncio.Future[Exit]) -> None:
            if done.cancelled():
                task.cancel()
            else:
                sender.ended(done.result())

        def closed(done: asyncio.Task[None]) -> None:
            exit.remove_done_callback(over)
            stop_watching()
            os.close(fd)
            if not sender.told.done():
                sender.told.set_result(None)
            del self._senders[key], self._tasks[key]
            if not done.cancelled() and done.exception() is not None:
                log.error("an output channel failed", extra={"channel": channel.id}, exc_info=done.exception())

        exit.add_done_callback(over)
        task.add_done_callback(closed)
        self._senders[key] = sender
        self._tasks[key] = task
        return sender

    def enter(self, channel: Channel, sender: Sender) -> None:
        """Let another `sender` have the receiver's credit of `channel`, until `leave`.

        Raises:
            Conflict: the channel is in use.
        """
        if (channel.namespace, channel.id) in self._senders:
            raise Conflict(f"open channel {channel.id}: it is in use")
        self._senders[channel.namespace, channel.id] = sender

    def leave(self, channel: Channel) -> None:
        """Forget what `enter` took."""
        self._senders.pop((channel.namespace, channel.id), None)

    def drop(self, channel: Channel) -> None:
        """Stop sending over `channel`, without an end."""
        task = self._tasks.get((channel.namespace, channel.id))
        if task is not None:
            task.cancel()

    def credit(self, namespace: str, channel: str, stream: str, have: int, until: int, *, resend: bool) -> None:
        """Pass a receiver's credit to its sender; unknown channels are ignored."""
        sender = self._senders.get((namespace, channel))
        if sender is not None:
            sender.credit(stream, have, until, resend=resend)

    def bus_is_back(self) -> None:
        """Tell every receiver where its streams are."""
        for sender in self._senders.values():
            sender.bus_is_back()

    async def close(self) -> None:
        """End all senders."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
