"""The one thread of a process that writes to a Redis store: what waits together is sent together, as one command."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hythe import tracing
from hythe.durable import count_sync
from hythe.errors import HytheError, Unavailable
from hythe_metadata.adapters.redis_batch import Task
from hythe_metadata.adapters.redis_committer import Committer
from hythe_metadata.records import Work

MAX_BATCH = 256
REST_S = 1.0
UPKEEP_S = 60.0
"""How often records are forgotten whose time has come."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Observe = Callable[[int, float], None]


@dataclass(slots=True)
class _Job:
    task: Task
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def answer(self) -> None:
        if self.future.done():
            return
        if self.task.error is not None:
            self.future.set_exception(self.task.error)
        else:
            self.future.set_result(self.task.result)


@dataclass(frozen=True, slots=True)
class _Sent:
    sequences: Sequence[int]


class _End:
    """Nothing comes after this."""


class Writer:
    """Carries out changes one after another, in its own thread; all of a batch are answered when it is durable."""

    def __init__(
        self, committer: Committer, changed: Callable[[], None], observe: Observe, upkeep_s: float = UPKEEP_S
    ) -> None:
        """Take over `committer`; `changed` is called in the thread after each batch that changed something."""
        self._upkeep_s = upkeep_s
        self._committer = committer
        self._changed = changed
        self._observe = observe
        self._queue: queue.SimpleQueue[_Job | _Sent | _End] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._upkeep_at = 0.0
        self._told = False
        self._thread = threading.Thread(target=self._run, name="metadata-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Return what `work` returns, once it is durable together with all of its batch.

        Raises:
            Unavailable: closed, or Redis is away.
            ResourceExhausted: Redis has no room.
            FailedPrecondition: the store there is another one by now, or was moved.
            Exception: whatever `work` raises; then it has changed nothing.
        """
        loop = asyncio.get_running_loop()
        job = _Job(Task(work), loop.create_future(), loop)
        with tracing.span("metadata.commit"):
            self._put(job)
            result: T = await job.future
            if job.task.wrote:
                count_sync()
            return result

    def sent(self, sequences: Sequence[int]) -> None:
        """Forget events with the next batch that comes anyway, or at rest; forgotten itself if the process dies before."""
        self._put(_Sent(sequences))

    async def close(self) -> None:
        """Carry out what was accepted, and end."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(_End())
        await asyncio.to_thread(self._thread.join)

    def _put(self, item: _Job | _Sent) -> None:
        with self._closing:
            if self._closed:
                raise Unavailable("write metadata store: it is closed", service="metadata")
            self._queue.put(item)

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._next()
            if jobs:
                self._carry_out(jobs)
            if not jobs or time.monotonic() >= self._upkeep_at:
                self._upkeep()
        self._committer.close()

    def _next(self, *, wait: bool = True) -> tuple[list[_Job], bool]:
        """Return the jobs that wait, and whether this is the end; none when there is something to be done at rest."""
        jobs: list[_Job] = []
        while len(jobs) < MAX_BATCH:
            try:
                item = self._queue.get(block=wait and not jobs, timeout=self._patience_s())
            except queue.Empty:
                break
            if isinstance(item, _End):
                return jobs, True
            if isinstance(item, _Sent):
                self._committer.sent += item.sequences
            else:
                jobs.append(item)
        return jobs, False

    def _patience_s(self) -> float:
        if self._committer.sent:
            return REST_S
        return max(0.0, self._upkeep_at - time.monotonic())

    def _carry_out(self, jobs: list[_Job]) -> None:
        begun = time.monotonic()
        left = [job.task for job in jobs]
        try:
            while left:
                left = self._committer.carry_out(left)
        except HytheError as error:
            for task in left:
                task.error, task.wrote = copy.copy(error), False
            if isinstance(error, Unavailable) and time.monotonic() - begun > REST_S / 2:
                jobs = jobs + self._refuse_waiting(error)
        wrote = sum(job.task.wrote for job in jobs)
        if wrote:
            self._observe(wrote, time.monotonic() - begun)
            self._changed()
        self._answer(jobs)

    def _refuse_waiting(self, error: Unavailable) -> list[_Job]:
        """Refuse what has come meanwhile too: it would wait as long, one batch after another, and hear the same."""
        waiting, ended = self._next(wait=False)
        if ended:
            self._queue.put(_End())
        for job in waiting:
            job.task.error = copy.copy(error)
            job.task.error.outcome = "not started"
        return waiting

    def _answer(self, jobs: list[_Job]) -> None:
        for loop in {job.loop for job in jobs}:
            try:
                loop.call_soon_threadsafe(_answer, [job for job in jobs if job.loop is loop])
            except RuntimeError:
                _log.warning("nobody is left to hear the outcome of %d changes", len(jobs))

    def _upkeep(self) -> None:
        """Do what waits for rest; what fails here is told, and done the next time."""
        try:
            self._committer.forget_sent()
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + self._upkeep_s
                self._committer.forget_due()
            self._told = False
        except HytheError as error:
            if not self._told:
                _log.warning("metadata store has no rest: %s (%s)", error.message, error.cause)
            self._told = True


def _answer(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()
