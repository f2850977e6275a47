"""All channels over which this agent sends output, each by the sender that has the receiver's credit."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hythe.errors import Conflict, NotFound
from hythe_runtime.agent.ending import end_all
from hythe_runtime.agent.logtail import start_of_last
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.ports import IoTransport, Sender
from hythe_runtime.agent.stdio import Channel, OutputSender, View

log = logging.getLogger(__name__)


class FileWatches(Protocol):
    """Tells when a file is written to."""

    def watch(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each write from now on; return what ends that."""


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
        await end_all(self._tasks.values())
