"""One container's live side: who works on it, who waits for it, and its present record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hythe.errors import HytheError
from hythe_runtime.agent.model import Exit, Record
from hythe_runtime.agent.ports import Attachment, Monitor
from hythe_runtime.agent.stdio import Channel


class Task:
    """A container that this agent works on.

    Attributes:
        record: what may be known of it: durable where it must be.
        monitor: its conmon, while there is one.
        work: what creates, watches or removes it now.
        failure: why it could not be created.
        stuck: what stood in the way of clearing up after it, the last time.
        bundle_possible: the bundle service may have made a bundle for it.
        launched: its run directory and log are there.
        stopped: its monitor is gone; how it ended is being written down.
        waiters: how many requests wait for its end.
        exit: how it ended; cancelled when it never began.
        cleaned: nothing of it is left on the host, but perhaps its bundle.
    """

    def __init__(self, record: Record) -> None:
        loop = asyncio.get_running_loop()
        self.record = record
        self.monitor: Monitor | None = None
        self.attachment: Attachment | None = None
        self.input_channel: Channel | None = None
        self.work: asyncio.Task[None] | None = None
        self.failure: HytheError | None = None
        self.stuck: HytheError | None = None
        self.bundle_possible = True
        self.launched = asyncio.Event()
        self.stopped = asyncio.Event()
        self.waiters = 0
        self.cleaned = asyncio.Event()
        self.exit: asyncio.Future[Exit] = loop.create_future()
        self.abort_reason: asyncio.Future[str] = loop.create_future()
        self._waiting: list[tuple[Callable[[Record], bool], asyncio.Future[Record]]] = []

    def __repr__(self) -> str:
        return f"Task({self.record.id}, {self.record.state})"

    def take(self, record: Record) -> None:
        """Note a change, and wake who waited for it."""
        self.record = record
        if record.exit is not None and not self.exit.done():
            self.stopped.set()
            self.exit.set_result(record.exit)
        waiting, self._waiting = self._waiting, []
        for wanted, future in waiting:
            if future.done():
                continue
            if wanted(record):
                future.set_result(record)
            else:
                self._waiting.append((wanted, future))

    async def reached(self, wanted: Callable[[Record], bool]) -> Record:
        """Return the record as soon as it is `wanted`."""
        if wanted(self.record):
            return self.record
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        return await future

    def abort(self, reason: str) -> None:
        """Ask that its creation be given up."""
        if not self.abort_reason.done():
            self.abort_reason.set_result(reason)

    def never_was(self, failure: HytheError) -> None:
        """Not even its first step could be taken; who waits for it gets `failure`."""
        self.failure = failure
        self.over()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(failure)

    def over(self) -> None:
        """Nothing of it is left on this host, but perhaps its bundle."""
        if not self.exit.done():
            self.exit.cancel()
        self.launched.set()
        self.cleaned.set()
