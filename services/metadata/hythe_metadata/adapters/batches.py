"""The one thread that changes a store: what waits together is carried out together, and answered when it is durable."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hythe import tracing
from hythe.durable import count_sync
from hythe.errors import DataLoss, HytheError, ResourceExhausted, Unavailable
from hythe_metadata.records import Work

MAX_BATCH = 256
REST_S = 1.0

_log = logging.getLogger(__name__)

T = TypeVar("T")
Observe = Callable[[int, float], None]
"""Told of each commit how many changes it had and how many seconds it took; called in the thread."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a piece of work returned, and whether it changed anything."""

    result: T
    wrote: bool


@dataclass(slots=True)
class Job:
    """A piece of work that waits; whoever carries it out sets `outcome`."""

    work: Work[Any]
    outcome: Done[Any] | Exception | None = None


@dataclass(slots=True)
class _Waiting(Job):
    future: asyncio.Future[Done[Any]] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def answer(self) -> None:
        if self.future is None or self.future.done():
            return
        if isinstance(self.outcome, Exception):
            self.future.set_exception(self.outcome)
        elif self.outcome is not None:
            self.future.set_result(self.outcome)


class _End:
    """Nothing comes after this."""


class Body(Protocol):
    """What carries batches out; all of it is called in the thread."""

    def commit(self, jobs: Sequence[Job]) -> HytheError | None:
        """Carry out `jobs` one after another, at once and durably; return why that failed, if it did.

        A job that raises is undone and the others stand. On failure nothing has happened but for an outcome that is
        ``unknown``.
        """

    def forget_sent(self, sequences: Sequence[int]) -> None:
        """Forget these events with the next commit."""

    def rest(self) -> HytheError | None:
        """Do upkeep, for nothing came for a while; return why that failed, if it did."""

    def close(self) -> None:
        """Give everything back."""


class Batches:
    """Gathers what is to be changed and hands it to a body in its own thread.

    When nothing came for `REST_S` seconds after a change, the body does its upkeep.
    """

    def __init__(self, body: Body, name: str, observe: Observe) -> None:
        """Start the thread, which owns `body` from now on; `name` says in messages which store it is."""
        self._body = body
        self._name = name
        self._observe = observe
        self._queue: queue.SimpleQueue[_Waiting | Sequence[int] | _End] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._broken: HytheError | None = None
        self._unrested = False
        self._thread = threading.Thread(target=self._run, name="metadata-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> Done[T]:
        """Carry out `work` with the next batch and return its result when that is durable.

        `work` may run more than once, each time on what is stored then. Cancelling the wait does not undo it.

        Raises:
            Unavailable: closed, or the store is away or held by another program.
            ResourceExhausted: the disk is full; nothing was changed.
            DataLoss: the disk failed in this or an earlier commit; nothing more is written until a restart.
            Exception: whatever `work` raises; then it has changed nothing.
        """
        loop = asyncio.get_running_loop()
        job = _Waiting(work, future=loop.create_future(), loop=loop)
        with tracing.span("metadata.commit"):
            self._put(job)
            assert job.future is not None
            done: Done[T] = await job.future
            if done.wrote:
                count_sync()
            return done

    def forget_sent(self, sequences: Sequence[int]) -> None:
        """Forget events with the next commit that comes anyway, or at rest; lost if the process dies before."""
        self._put(tuple(sequences))

    async def close(self) -> None:
        """Carry out what was accepted, bring the store to rest, close it."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(_End())
        await asyncio.to_thread(self._thread.join)

    def _put(self, item: _Waiting | Sequence[int]) -> None:
        with self._closing:
            if self._closed:
                raise Unavailable(f"write {self._name}: it is closed", service="metadata")
            self._queue.put(item)

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs, ended = self._next()
            if jobs:
                self._carry_out(jobs)
            elif not ended:
                self._settle()
        self._settle()
        self._body.close()

    def _next(self) -> tuple[list[_Waiting], bool]:
        """Return the jobs that wait, and whether this is the end; neither when nothing came and there is work to rest."""
        jobs: list[_Waiting] = []
        while len(jobs) < MAX_BATCH:
            try:
                item = self._queue.get(block=not jobs, timeout=REST_S if self._unrested else None)
            except queue.Empty:
                break
            if isinstance(item, _End):
                return jobs, True
            if isinstance(item, _Waiting):
                jobs.append(item)
            else:
                self._body.forget_sent(item)
                self._unrested = True
        return jobs, False

    def _carry_out(self, jobs: list[_Waiting]) -> None:
        error = self._broken or self._commit(jobs)
        if isinstance(error, ResourceExhausted) and len(jobs) > 1:
            for job in jobs:  # one large change must not take the small ones of its batch down
                self._carry_out([job])
            return
        if isinstance(error, DataLoss):
            self._broken = error
        if error is not None:
            for job in jobs:
                job.outcome = copy.copy(error)
        for loop in {job.loop for job in jobs if job.loop is not None}:
            try:
                loop.call_soon_threadsafe(_answer, [job for job in jobs if job.loop is loop])
            except RuntimeError:
                _log.warning("nobody is left to hear the outcome of %d changes", len(jobs))

    def _commit(self, jobs: list[_Waiting]) -> HytheError | None:
        begun = time.monotonic()
        error = self._body.commit(jobs)
        if error is None and any(isinstance(job.outcome, Done) and job.outcome.wrote for job in jobs):
            self._unrested = True
            self._observe(len(jobs), time.monotonic() - begun)
        return error

    def _settle(self) -> None:
        """Let the body do its upkeep; what fails here fails again, and is told, at the next commit."""
        self._unrested = False
        if self._broken is not None:
            return
        error = self._body.rest()
        if error is not None:
            _log.warning("%s is not at rest: %s (%s)", self._name, error.message, error.cause)


def _answer(jobs: list[_Waiting]) -> None:
    for job in jobs:
        job.answer()
