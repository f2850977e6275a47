"""A download in progress: who waits for it, how far it is, and how it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from hythe.digest import Digest
from hythe.errors import HytheError, Unavailable
from hythe.oci import Descriptor
from hythe.ports.content import Ingest
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.hosts import Source

REPORT_INTERVAL_S = 0.1

BlobState = Literal["waiting", "fetching", "verifying", "fetched", "exists"]
Outcome = HytheError | Cancelled | None
"""How a download ended; None: the blob is in the store."""


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """Where one blob stands; `done_bytes` of `total_bytes` counts the work of `state`."""

    digest: Digest
    state: BlobState
    done_bytes: int
    total_bytes: int


Watch = Callable[[BlobProgress], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a download gets its bytes: a repository or, for a foreign layer, the first of the `urls` that has them."""

    source: Source
    urls: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "the URLs of its descriptor" if self.urls else str(self.source)


class Flight:
    """One download; its own thread moves it, the event loop and any thread may wait for it.

    Attributes:
        progress: what was reported last.
        received_bytes: what came over the network for it so far.
        task: the whole of it; it never raises.
    """

    def __init__(self, origin: Origin, descriptor: Descriptor) -> None:
        self.origin = origin
        self.descriptor = descriptor
        self.cancellation = Cancellation()
        self.progress = BlobProgress(descriptor.digest, "waiting", 0, descriptor.size_bytes)
        self.received_bytes = 0
        self.task: asyncio.Task[Outcome]
        self._loop = asyncio.get_running_loop()
        self._reported_at = 0.0
        self._watches: list[Watch] = []
        self._moved = threading.Condition()
        self._waiting = 0
        self._readers = 0
        self._ingest: Ingest | None = None
        self._round = 0
        self._written = 0
        self._landed = False
        self._outcome: Outcome = None

    async def wait(self, watch: Watch) -> Outcome:
        """Return how it ends, telling `watch` how it goes; when the last one who waits is cancelled, it is given up."""
        with self._moved:
            self._waiting += 1
        self._watches.append(watch)
        watch(self.progress)
        try:
            return await asyncio.shield(self.task)
        finally:
            self._watches.remove(watch)
            self.leave()

    def join(self) -> bool:
        """Count one more who waits for it, until `leave`; False if it has ended or was given up already."""
        with self._moved:
            if self._landed or self.cancellation.cancelled:
                return False
            self._waiting += 1
            return True

    def leave(self) -> None:
        """Count one less; without anybody it is given up."""
        with self._moved:
            self._waiting -= 1
            abandoned = self._waiting == 0 and not self._landed
        if abandoned:
            self.cancellation.cancel()

    def report(self, state: BlobState, done_bytes: int) -> None:
        """Tell the watches from the working thread: each change of state, and bytes at most ten times a second."""
        now = time.monotonic()
        if state == self.progress.state and now - self._reported_at < REPORT_INTERVAL_S:
            return
        self._reported_at = now
        self.progress = replace(self.progress, state=state, done_bytes=done_bytes)
        self._loop.call_soon_threadsafe(self._tell, self.progress)

    def _tell(self, progress: BlobProgress) -> None:
        for watch in self._watches:
            watch(progress)

    def write_to(self, ingest: Ingest) -> None:
        """Let readers read along in `ingest`, at once what it holds already; what they had from another before was wrong."""
        with self._moved:
            self._round += 1
            self._ingest, self._written = ingest, ingest.offset
            self._moved.notify_all()

    def advance(self, written: int) -> None:
        """Let readers go on to byte `written` of the ingest."""
        self._written = written
        if self._readers:  # one that comes now looks at what is written before it waits
            with self._moved:
                self._moved.notify_all()

    def end_writing(self) -> None:
        """Have readers wait for the outcome: the ingest is closed."""
        with self._moved:
            self._ingest = None

    def land(self, outcome: Outcome) -> None:
        """Tell readers how it has ended."""
        with self._moved:
            self._landed, self._outcome = True, outcome
            self._moved.notify_all()

    def wait_beyond(self, offset: int, seen_round: int, closed: threading.Event) -> tuple[int, Ingest | None]:
        """Return the round and its ingest as soon as more than `offset` bytes can be read there.

        Args:
            seen_round: the round whose bytes the reader has been given; 0 for none yet.
            closed: ends the waiting; see `wake`.

        Returns:
            None for the ingest: the blob is in the store.

        Raises:
            HytheError: it has failed.
            Unavailable: it was given up, or a further round has begun: what the reader was given was wrong.
            Cancelled: the reader was closed.
        """

        def wrong() -> bool:
            return seen_round not in (0, self._round)

        def moved() -> bool:
            there = self._ingest is not None and self._written > offset
            return there or wrong() or self._landed or closed.is_set()

        step = f"read {self.descriptor.digest} while it comes"
        with self._moved:
            self._readers += 1
            try:
                self._moved.wait_for(moved)
            finally:
                self._readers -= 1
            if closed.is_set():
                raise Cancelled
            if isinstance(self._outcome, HytheError):
                raise self._outcome
            if self._outcome is not None:
                raise Unavailable(f"{step}: its download was given up", next_step="try again")
            if wrong():
                raise Unavailable(f"{step}: wrong bytes came, it was begun anew", next_step="try again")
            return self._round, None if self._landed else self._ingest

    def wake(self) -> None:
        """Have readers look whether they were closed."""
        with self._moved:
            self._moved.notify_all()
