"""Everything that may be asked of the agent: run, stop, kill, remove, show, list, logs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from hythe import tracing
from hythe.errors import Conflict, DeadlineExceeded, FailedPrecondition, Internal, NotFound
from hythe_runtime.agent import states
from hythe_runtime.agent.book import Book
from hythe_runtime.agent.entries import Commanded
from hythe_runtime.agent.executor import Executor
from hythe_runtime.agent.model import STARTED, Epoch, Intent, Order, Record, Status
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.places import Places
from hythe_runtime.agent.ports import Files, Runtime
from hythe_runtime.agent.signalling import Signals, check_ended, ends_within, stop_signal
from hythe_runtime.agent.signals import signal_number
from hythe_runtime.agent.status import Board, Page
from hythe_runtime.agent.stdio import Channel, View
from hythe_runtime.agent.task import Task

log = logging.getLogger(__name__)

CLEARED_WITHIN_S = 15.0
STOPPING_WITHIN_S = 5.0
_STOP, _KILL, _REMOVE = Order("stop"), Order("kill"), Order("remove")


class Supervisor:
    """All containers of this host, and what is done with each: one work at a time."""

    def __init__(
        self,
        book: Book,
        board: Board,
        places: Places,
        executor: Executor,
        runtime: Runtime,
        files: Files,
        outputs: Outputs,
    ) -> None:
        self._book = book
        self._board = board
        self._places = places
        self._executor = executor
        self._signals = Signals(runtime)
        self._files = files
        self._outputs = outputs
        self._tasks: dict[str, Task] = {}
        book.on_change(self._changed)

    async def run(
        self, intent: Intent, channel: Channel | None, *, wait: bool, started: Callable[[Status], None]
    ) -> Status:
        """Create and start a container, or join the one of that id.

        Args:
            channel: where its output goes, and its input comes from.
            wait: return after its end, else after its start.
            started: called with its status once it is started.

        Raises:
            Conflict: the id was used for another request.
            ResourceExhausted: no room for its journal entry, or less than the reserve on the disk.
            FailedPrecondition: it was removed here, or overtaken, or cannot be made or started.
            HytheError: its bundle could not be made. In no case is anything of it left.
        """
        task = self._tasks.get(intent.id)
        tombstone = self._book.ledger.tombstones.get(intent.id)
        record = task.record if task is not None else None
        joins = states.check_run(record, tombstone, intent.body_hash(), intent.epoch, intent.name)
        if task is None or not joins:
            self._files.check_room("make a container")
            task = Task(Record(intent, "creating", intent.epoch))
            task.input_channel = channel if intent.stdin else None
            self.begin(task, self._executor.live(task))
        if channel is not None:
            await self._send_output(task, channel)
        await task.reached(lambda reached: reached.state in STARTED)
        if not task.record.started_at:
            await task.cleaned.wait()
            raise task.failure or FailedPrecondition(f"run {intent.name}: {task.record.reason}")
        started(self._status(task))
        if wait:
            await self._wait_for_end(task)
        return self._status(task)

    async def _wait_for_end(self, task: Task) -> None:
        task.waiters += 1
        try:
            with tracing.span("container running", container__id=task.record.id):
                await task.stopped.wait()
            await asyncio.shield(task.exit)
        finally:
            task.waiters -= 1

    async def _send_output(self, task: Task, channel: Channel) -> None:
        await task.launched.wait()
        if not task.cleaned.is_set():
            path = self._places.run_of(task.record).log
            await self._outputs.open(channel, path, View(), task.exit)

    async def stop(
        self,
        namespace: str,
        container_id: str,
        epoch: Epoch,
        signal: str | None,
        timeout_s: float | None,
        order: Order = _STOP,
    ) -> Status:
        """Send the stop signal, and SIGKILL after `timeout_s`; return its status at its end.

        Raises:
            NotFound: it is not here; the outcome is "done".
            FailedPrecondition: overtaken by a later command.
            DeadlineExceeded: it did not end even by SIGKILL within 15 s.
        """
        number = signal_number(signal) if signal else None
        task = await self._command(namespace, container_id, epoch, order)
        if states.plan_stop(task.record.state) == "abort":
            await self._abort(task, "it was stopped before it was started")
        if task.record.state == "running":
            intent = task.record.intent
            await self._signals.send(task, number or stop_signal(task.record))
            wait_s = intent.stop_timeout_s if timeout_s is None else timeout_s
            if not await ends_within(task, wait_s):
                await self._signals.kill(task)
        check_ended(task)
        return self._status(task)

    async def kill(self, namespace: str, container_id: str, epoch: Epoch, signal: str, order: Order = _KILL) -> None:
        """Send one signal to a container's first process.

        Raises:
            NotFound: it is not here.
            FailedPrecondition: nothing runs, or overtaken by a later command.
            InvalidArgument: there is no such signal.
        """
        number = signal_number(signal)
        task = await self._command(
            namespace,
            container_id,
            epoch,
            replace(order, signal=number),
            lambda record: states.check_signalled(record.state, record.intent.name),
        )
        await self._signals.send_once(task, number)

    async def remove(
        self, namespace: str, container_id: str, epoch: Epoch, *, force: bool, order: Order = _REMOVE
    ) -> Status:
        """Remove a container and all it has on this host; its bundle may follow when the bundle service is back.

        Raises:
            NotFound: it is not here; the outcome is "done".
            FailedPrecondition: it runs and `force` is not set; or something of it cannot be removed.
        """

        def planned(record: Record) -> states.RemovePlan:
            return states.plan_remove(record.state, force=force, name=record.intent.name)

        task = await self._command(namespace, container_id, epoch, order, planned)
        plan = planned(task.record)
        if plan == "abort":
            await self._abort(task, "it was removed before it was started")
        if task.record.state == "running":
            await self._signals.kill(task)
        check_ended(task)
        if task.record.state == "exited":
            await self._remove_ended(task)
        await self._wait_cleaned(task)
        return self._status(task)

    async def _remove_ended(self, task: Task) -> None:
        """Begin the removal as soon as what is done after the end is done; whoever comes second follows the first."""
        changed = asyncio.ensure_future(task.reached(lambda record: record.state != "exited"))
        try:
            while task.record.state == "exited":
                if task.work is None or task.work.done():
                    task.cleaned.clear()
                    self.begin(task, self._executor.remove(task))
                either: list[asyncio.Future[Any]] = [changed, *([task.work] if task.work else [])]
                done, _ = await asyncio.wait(either, timeout=CLEARED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    raise task.stuck or DeadlineExceeded(f"clear up after {task.record.intent.name}: not done yet")
        finally:
            changed.cancel()

    async def _wait_cleaned(self, task: Task) -> None:
        try:
            async with asyncio.timeout(CLEARED_WITHIN_S):
                await task.cleaned.wait()
        except TimeoutError:
            raise task.stuck or DeadlineExceeded(f"remove {task.record.intent.name}: not done yet") from None
        if task.stuck is not None and task.record.state != "removed":
            raise task.stuck

    async def logs(self, namespace: str, container_id: str, channel: Channel, view: View) -> tuple[int, int]:
        """Send a container's output over `channel`; return the final offsets of stdout and stderr.

        Raises:
            NotFound: the container or its log is not here.
            Conflict: the channel is in use.
            FailedPrecondition: the container was given up before it began.
        """
        task = self.find(namespace, container_id)
        sender = await self._outputs.open(channel, self._places.run_of(task.record).log, view, task.exit)
        if sender is None:
            raise Conflict(f"open channel {channel.id}: it is in use")
        try:
            told = await asyncio.shield(sender.told)
        except asyncio.CancelledError:
            self._outputs.drop(channel)
            raise
        if told is None:
            raise FailedPrecondition(f"read the log of {task.record.intent.name}: it was given up")
        return told

    def inspect(self, namespace: str, container_id: str) -> Status:
        """Return the status of one container.

        Raises:
            NotFound: it is not here.
        """
        return self._status(self.find(namespace, container_id))

    def page(self, after: str, limit: int) -> Page:
        """Return one page of all that this host knows, in all namespaces."""
        return self._board.page(after, limit)

    def begin(self, task: Task, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` on a container that has no other work; the container is known from now on."""
        self._tasks[task.record.id] = task
        task.work = asyncio.get_running_loop().create_task(work, name=f"container {task.record.id}")
        task.work.add_done_callback(lambda done: self._work_done(task, done))

    def know(self, task: Task) -> None:
        """Take a container on which nothing needs to be done."""
        self._tasks[task.record.id] = task

    async def close(self) -> None:
        """Let what is being made or removed come to its end, for at most 5 s, and stop watching; containers go on."""
        busy = [task for task in self._tasks.values() if task.work is not None and not task.work.done()]
        works = {task.work for task in busy if task.work is not None}
        short = {
            task.work for task in busy if task.work and task.record.state != "running" and not task.cleaned.is_set()
        }
        if short:
            await asyncio.wait(short, timeout=STOPPING_WITHIN_S)
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)

    def _changed(self, record: Record) -> None:
        self._board.take(record)
        task = self._tasks.get(record.id)
        if task is not None:
            task.take(record)
            if record.state == "removed":
                del self._tasks[record.id]

    def _work_done(self, task: Task, done: asyncio.Task[None]) -> None:
        if task.record.id not in self._book.ledger.records:
            self._tasks.pop(task.record.id, None)
        if done.cancelled() or done.exception() is None:
            return
        log.error("work on a container failed", extra={"id": task.record.id}, exc_info=done.exception())
        task.never_was(
            Internal(
                f"work on {task.record.intent.name}: a fault of hythe-agent",
                cause=repr(done.exception()),
                outcome="unknown",
                next_step="restart the agent: it settles what was begun",
            )
        )

    def _status(self, task: Task) -> Status:
        return self._board.get(task.record.id) or Status(task.record, self._board.change)

    def find(self, namespace: str, container_id: str, epoch: Epoch | None = None) -> Task:
        """Return a container that is here.

        Raises:
            NotFound: it is not; the outcome is "done".
            FailedPrecondition: overtaken by a later command than one of `epoch`.
        """
        ledger = self._book.ledger
        record = ledger.records.get(container_id)
        if record is not None and record.intent.namespace != namespace:
            raise NotFound(f"find container {container_id}: namespace {namespace} has none of that id")
        states.check_known(record, ledger.tombstones.get(container_id), container_id, epoch)
        return self._tasks[container_id]

    async def _command(
        self,
        namespace: str,
        container_id: str,
        epoch: Epoch,
        order: Order,
        allowed: Callable[[Record], object] = lambda record: None,
    ) -> Task:
        """Return the container that a command is for, after its epoch is on disk; who gave it is written down, too.

        Raises:
            FailedPrecondition: `allowed` refuses it; then only the epoch is written down.
        """
        task = self.find(namespace, container_id, epoch)
        refusal: FailedPrecondition | None = None
        try:
            allowed(task.record)
        except FailedPrecondition as error:
            refusal = error
        commanded = Commanded(container_id, epoch, None if refusal else order)
        if epoch > self._book.ledger.records[container_id].epoch:
            await self._book.record(commanded)
        elif refusal is None:
            self._book.note(commanded)
        if refusal is not None:
            raise refusal
        return task

    async def _abort(self, task: Task, reason: str) -> None:
        """Give up a creation; return when it is undone, or when it was too late for that and the container runs."""
        task.abort(reason)
        await task.reached(lambda record: record.state in STARTED)
        if not task.record.started_at:
            await task.cleaned.wait()
