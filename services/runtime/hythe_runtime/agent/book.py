"""The agent's book: each step of a container is written to the journal and then told to whom it concerns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hythe import durable
from hythe.errors import DataLoss, HytheError, Internal
from hythe_runtime.agent.entries import Asked, Confirmed, Entry, StepEntry
from hythe_runtime.agent.journal import Journal
from hythe_runtime.agent.ledger import Change, Ledger, replay
from hythe_runtime.agent.model import Event, Record

log = logging.getLogger(__name__)


class Book:
    """Journal and ledger as one: what is written is applied in the same order, and told when it may be known."""

    def __init__(self, directory: Path) -> None:
        self._journal = Journal(directory)
        self._on_change: list[Callable[[Record], None]] = []
        self._on_owed: list[Callable[[tuple[Event, ...]], None]] = []
        self.ledger = Ledger()

    @property
    def syncs(self) -> int:
        """How many fsyncs the journal did."""
        return self._journal.syncs

    async def open(self) -> None:
        """Read the journal and begin to write it; before anything is served.

        Raises:
            DataLoss: the journal is damaged.
            ResourceExhausted: there is no room for it.
        """
        try:
            self.ledger = replay(await asyncio.to_thread(self._journal.read))
        except Internal as error:
            raise DataLoss(f"read the journal: {error.message}") from error
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._journal.start, loop, self._snapshot(), self._snapshot)

    def _snapshot(self) -> Sequence[Entry]:
        return self.ledger.snapshot(int(time.time()))

    def close(self) -> None:
        """Make everything durable and stop writing. Blocks."""
        self._journal.close()

    def on_change(self, callback: Callable[[Record], None]) -> None:
        """Call `callback` for each later change of a container; if the change had to be durable, it is by then."""
        self._on_change.append(callback)

    def on_owed(self, callback: Callable[[tuple[Event, ...]], None]) -> None:
        """Call `callback` with later events of one container, once they are durable."""
        self._on_owed.append(callback)

    async def record(self, *entries: StepEntry) -> Record:
        """Take steps of one container and return when they survive power loss; nobody is told of them before.

        A step that the disk refuses is taken all the same, for it has happened; only `Asked` is not.

        Raises:
            ResourceExhausted: no room for `Asked`; nothing may be done for the container.
            Internal: the disk failed at `Asked`.
        """
        changes = [self.ledger.step(entry) for entry in entries]
        try:
            await self._journal.append(entries, urgent=True)
            durable.count_sync()
        except HytheError as error:
            if isinstance(entries[0], Asked):
                self.ledger.forget(entries[0].id)
                raise
            log.error("a step was not journaled", extra={"id": entries[0].id, "cause": str(error)})
        self._tell(changes)
        self._release(changes)
        return changes[-1].record

    def note(self, *entries: StepEntry) -> Record:
        """Take steps that need not survive power loss, for what they tell of will not either."""
        changes = [self.ledger.step(entry) for entry in entries]
        written = self._journal.append(entries, urgent=False)
        written.add_done_callback(lambda done: self._noted(done, changes))
        self._tell(changes)
        return changes[-1].record

    def confirm(self, container_id: str, number: int) -> None:
        """Note that the bus has stored a container's events up to `number`."""
        entry = Confirmed(container_id, number)
        self.ledger.confirm(entry)
        self._journal.append([entry], urgent=False).add_done_callback(lambda done: self._noted(done, []))

    def _noted(self, done: asyncio.Future[None], changes: list[Change]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            log.error("a step was not journaled", extra={"cause": str(error)})
        self._release(changes)

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            for callback in self._on_change:
                callback(change.record)

    def _release(self, changes: list[Change]) -> None:
        events = tuple(event for change in changes for event in change.events)
        if events:
            for callback in self._on_owed:
                callback(events)
