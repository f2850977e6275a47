"""What is done for one container, in order: create, start, watch, clear, remove (ARCHITECTURE §2, §6)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from hythe import clock, failpoints, tracing
from hythe.errors import DeadlineExceeded, FailedPrecondition, HytheError, Unavailable
from hythe_runtime.agent.book import Book
from hythe_runtime.agent.cleanup import Cleaner
from hythe_runtime.agent.entries import Asked, Created, Ended, Prepared, Removed, Removing, Started
from hythe_runtime.agent.failures import FAILED_CODE
from hythe_runtime.agent.model import Bundle, Exit, Intent
from hythe_runtime.agent.places import Places, RunPlace
from hythe_runtime.agent.ports import Attacher, BundleService, Files, Monitors, Mounts, Runtime
from hythe_runtime.agent.stdin import Inputs
from hythe_runtime.agent.task import Task

log = logging.getLogger(__name__)

ANSWER_FIRST_S = 0.005  # whoever waits for the exit is told before processors are spent on cleaning up
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
KILLED_CODE = 137
OOM_KILLED = "OOMKilled"


class Executor:
    """Carries one container through its life; decides nothing about whether it should live."""

    def __init__(
        self,
        book: Book,
        places: Places,
        bundles: BundleService,
        monitors: Monitors,
        runtime: Runtime,
        mounts: Mounts,
        files: Files,
        attacher: Attacher,
        inputs: Inputs,
        cleaner: Cleaner,
    ) -> None:
        self._book = book
        self._places = places
        self._bundles = bundles
        self._monitors = monitors
        self._runtime = runtime
        self._mounts = mounts
        self._files = files
        self._attacher = attacher
        self._inputs = inputs
        self._cleaner = cleaner

    async def live(self, task: Task) -> None:
        """Create and start a container, watch it to its end, and clear up after it."""
        try:
            await self._create(task)
        except HytheError as error:
            await self._undo(task, error)
            return
        await self.watch(task)

    async def watch(self, task: Task) -> None:
        """Wait for the end of a started container and clear up after it; one with ``auto_remove`` is removed."""
        assert task.monitor is not None
        await task.monitor.ended()
        task.stopped.set()
        exit, at = task.monitor.exit()
        if task.waiters:
            await self.end(task, exit, at)
            return
        tracing.namespace.set(task.record.intent.namespace)
        with tracing.span("container ended", parent={}, container__id=task.record.id):
            await self.end(task, exit, at)

    async def end(self, task: Task, exit: Exit, at: str) -> None:
        """Record how a container ended, and clear up after it."""
        record = task.record
        oom_kills = self._cleaner.oom_kills(record)
        if oom_kills and exit.code == KILLED_CODE and record.order is None:
            exit = Exit(exit.code, OOM_KILLED)
        ended = Ended(record.id, at, tracing.trace_id(), exit, oom_kills)
        with tracing.span("journal exit", container__id=record.id):
            if record.intent.auto_remove:
                await self._book.record(ended, Removing(record.id, clock.now_rfc3339(), tracing.trace_id()))
            else:
                await self._book.record(ended)
        failpoints.reach("agent.after_exit")
        await self.settle(task)

    async def settle(self, task: Task) -> None:
        """Clear up after a container that has ended; remove it if it is to go."""
        self._close_input(task)
        await asyncio.sleep(ANSWER_FIRST_S)
        await self._clear(task)
        if task.record.state == "removing":
            await self._remove(task)

    async def remove(self, task: Task) -> None:
        """Remove a container that has ended and was cleared up after."""
        await self._book.record(Removing(task.record.id, clock.now_rfc3339(), tracing.trace_id()))
        await self.settle(task)

    async def undo(self, task: Task, reason: str) -> None:
        """Take away what was begun of a container that was never started."""
        tracing.namespace.set(task.record.intent.namespace)
        await self._undo(task, FailedPrecondition(reason))

    async def _create(self, task: Task) -> None:
        """Take every step from the intent to a running command; two of them side by side."""
        intent = task.record.intent
        place = self._places.run_of(task.record)
        warming = asyncio.ensure_future(self._monitors.warm_up())
        asked = asyncio.ensure_future(self._ask(intent))
        rooting = asyncio.ensure_future(self._make_root(task, place, asked))
        try:
            await asked
            failpoints.reach("agent.after_intent")
            task.monitor = await self._monitors.launch(place, stdin=intent.stdin)
            await warming
        except BaseException:
            task.abort("its monitor could not be started")
            await _ended(rooting)
            raise
        task.launched.set()
        await self._create_by_runc(task, place, await rooting)
        failpoints.reach("agent.after_create")
        await self._attach(task, place)
        _check_aborted(task)
        with tracing.span("runc start", container__id=intent.id):
            await self._runtime.start(place)
        self._book.note(Started(intent.id, clock.now_rfc3339(), tracing.trace_id()))
        failpoints.reach("agent.after_start")

    async def _make_root(self, task: Task, place: RunPlace, asked: asyncio.Future[None]) -> Bundle:
        """Have the bundle made while the intent is written, and mount its root file system after both."""
        intent = task.record.intent
        preparing = asyncio.ensure_future(self._bundles.prepare(intent, place.cgroup))
        try:
            either: list[asyncio.Future[Any]] = [preparing, task.abort_reason]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            _check_aborted(task)
        finally:
            preparing.cancel()
            failure = await _ended(preparing)
            task.bundle_possible = not isinstance(failure, HytheError) or failure.outcome == "unknown"
        bundle = preparing.result()
        await asyncio.shield(asked)
        self._book.note(Prepared(intent.id, bundle))
        with tracing.span("mount", container__id=intent.id):
            await self._mounts.mount(bundle)
        failpoints.reach("agent.after_mount")
        return bundle

    async def _ask(self, intent: Intent) -> None:
        with tracing.span("journal intent", container__id=intent.id):
            await self._book.record(Asked(intent))

    async def _create_by_runc(self, task: Task, place: RunPlace, bundle: Bundle) -> None:
        assert task.monitor is not None
        await self._files.link_bundle(place, bundle)
        with tracing.span("runc create", container__id=place.container_id):
            pid = await task.monitor.create()
        stdin = str(place.stdin_socket) if task.record.intent.stdin else ""
        now, identity = clock.now_rfc3339(), task.monitor.identity
        self._book.note(
            Created(place.container_id, now, tracing.trace_id(), identity, pid, stdin=stdin, log=str(place.log))
        )

    async def _attach(self, task: Task, place: RunPlace) -> None:
        channel = task.input_channel
        if channel is not None:
            with tracing.span("attach", container__id=place.container_id):
                task.attachment = await self._attacher.attach(place)
            self._inputs.open(channel.namespace, channel.id, task.attachment)

    def _close_input(self, task: Task) -> None:
        if task.input_channel is not None:
            self._inputs.drop(task.input_channel.namespace, task.input_channel.id)
        if task.attachment is not None:
            task.attachment.close()
            task.attachment = None

    async def _undo(self, task: Task, error: HytheError) -> None:
        """Take away all that was begun; who asked is told when nothing is left."""
        if task.record.id not in self._book.ledger.records:
            if task.bundle_possible:
                await self._cleaner.release(task.record)
            task.never_was(error)
            return
        record = self._book.ledger.records[task.record.id]
        error.outcome = "not started"  # whatever was begun is undone before anybody hears of it
        task.failure = error
        now = clock.now_rfc3339()
        removing = Removing(record.id, now, tracing.trace_id(), error.message)
        if record.state == "created":
            code = int(error.details.get("exit_code", FAILED_CODE))
            self._book.note(Ended(record.id, now, tracing.trace_id(), Exit(code, error.message)), removing)
        else:
            self._book.note(removing)
        with tracing.span("undo", container__id=record.id):
            self._close_input(task)
            await self._clear(task)
            await self._remove(task)

    async def _clear(self, task: Task) -> None:
        """Take away what the run has on the host, until it is gone."""
        retry_s = FIRST_RETRY_S
        while (failure := await self._cleaner.clear_run(task.record, task.monitor)) is not None:
            task.stuck = failure
            task.cleaned.set()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)
        task.stuck = None
        task.monitor = None

    async def _remove(self, task: Task) -> None:
        """Give the bundle back, as soon as its service takes it, and forget the container."""
        await self._cleaner.remove_logs(task.record)
        if isinstance(task.failure, Unavailable | DeadlineExceeded):
            task.over()  # the bundle service is away: who asked need not wait until it takes the bundle back
        retry_s = FIRST_RETRY_S
        while task.bundle_possible and (failure := await self._cleaner.release(task.record)) is not None:
            log.info("a bundle waits to be released", extra={"id": task.record.id, "cause": failure.message})
            task.over()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)
        self._book.note(Removed(task.record.id, clock.now_ns() // 1_000_000_000))
        task.over()


async def _ended(work: asyncio.Future[Any]) -> BaseException | None:
    """Wait until `work` is over and return what it failed with; None if it did not, or was cancelled."""
    await asyncio.wait([work])
    return None if work.cancelled() else work.exception()


def _check_aborted(task: Task) -> None:
    if task.abort_reason.done():
        raise FailedPrecondition(
            f"create {task.record.intent.name}: {task.abort_reason.result()}",
            phase="create",
            details={"exit_code": str(FAILED_CODE)},
        )
