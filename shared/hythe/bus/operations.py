"""Operations in progress: who follows each, its heartbeat, its result, and what happens when nobody follows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass, field

from pydantic import BaseModel

from hythe import asking, deadline, tracing
from hythe.bus.connection import Bus
from hythe.bus.endpoint import Context, Endpoint
from hythe.bus.message import Message
from hythe.bus.remembered import Remembered
from hythe.bus.replies import Answer, answer_of, fault, note_refusal, problem_of, send
from hythe.errors import Conflict, HytheError, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from hythe.metrics import Metrics
from hythe.wire.operation import STATE_HEADER, OperationState

log = logging.getLogger(__name__)

MAX_OPERATIONS = 4096


@dataclass(slots=True)
class _Running:
    endpoint: Endpoint
    body: str
    followers: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    answer: Answer | None = None
    outgoing: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)


class Operations:
    """All operations of one service, by (namespace, request id); done ones are remembered for a while."""

    def __init__(self, bus: Bus, metrics: Metrics, host: str) -> None:
        self._bus = bus
        self._metrics = metrics
        self._host = host
        self._running: dict[tuple[str, str], _Running] = {}
        self._done: Remembered[tuple[str, str]] = Remembered()
        self._heartbeat: asyncio.Task[None] | None = None
        self._back_since = -deadline.SILENCE_S
        bus.on_reconnect(self._see_return)

    def _see_return(self) -> None:
        self._back_since = time.monotonic()

    def start(self) -> None:
        """Begin to tell followers each second that their operations are alive."""
        self._heartbeat = asyncio.get_running_loop().create_task(self._beat_for_ever(), name="operations-alive")

    async def stop(self, timeout_s: float) -> None:
        """Cancel what runs; followers are told that the outcome is unknown, within `timeout_s`."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for running in self._running.values():
            self._cancel(running)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def state(self, namespace: str, request_id: str) -> OperationState:
        """Return the state of an operation.

        Raises:
            NotFound: this process knows none of that id.
        """
        key = (namespace, request_id)
        kept = self._done.get(key)
        if key in self._running:
            return OperationState(id=request_id, state="running")
        if kept is None:
            raise NotFound(f"find operation {request_id}: not known here", outcome="unknown")
        text = kept.answer.data.decode()
        if kept.answer.code == "ok":
            return OperationState(id=request_id, state="done", result=text)
        return OperationState(id=request_id, state="done", problem=text)

    async def begin(self, endpoint: Endpoint, context: Context, request: BaseModel, message: Message) -> None:
        """Start an operation, or let one more follower join the one with the same id and body.

        Raises:
            Conflict: the id came before with another body.
            ResourceExhausted: too many are in progress.
        """
        key = (context.namespace, context.request_id)
        body = hashlib.sha256(endpoint.kind.encode() + message.data).hexdigest()
        running, kept = self._running.get(key), self._done.get(key)
        if kept is not None and kept.answer.code != "ok":
            kept = None  # a failure is not remembered: the caller may try again
        known = running or kept
        if known is not None and known.body != body:
            raise Conflict(f"{endpoint.kind}: request id {context.request_id} came before with another body")
        if running is not None:
            running.followers.add(message.reply)
            await self._tell(running, message.reply, "accepted", b"{}")
        elif kept is not None:
            await send(self._bus, message.reply, kept.answer)
        elif len(self._running) >= MAX_OPERATIONS:
            raise ResourceExhausted(
                f"{endpoint.kind}: {MAX_OPERATIONS} operations are in progress", outcome="not started"
            )
        else:
            running = self._running[key] = _Running(endpoint, body, {message.reply})
            await self._tell(running, message.reply, "accepted", b"{}")
            running.task = asyncio.get_running_loop().create_task(self._run(key, running, context, request, message))

    async def _run(
        self, key: tuple[str, str], running: _Running, context: Context, request: BaseModel, message: Message
    ) -> None:
        started = time.monotonic()
        sender = asyncio.get_running_loop().create_task(self._send_progress(running))
        answer = running.answer = await self._work(running, context, request, message)
        await running.outgoing.join()
        sender.cancel()
        del self._running[key]
        self._done.keep(key, running.body, answer)
        for inbox in tuple(running.followers):
            await send(self._bus, inbox, answer)
        elapsed_s = time.monotonic() - started
        self._metrics.served.labels(running.endpoint.kind, answer.code).observe(elapsed_s)
        running.endpoint.figures.note(answer.code, elapsed_s)

    async def _work(self, running: _Running, context: Context, request: BaseModel, message: Message) -> Answer:
        endpoint = running.endpoint
        tracing.namespace.set(context.namespace)
        asking.current.set(context.asker)
        deadline.current.set(None)

        def progress(model: BaseModel) -> None:
            running.outgoing.put_nowait(("progress", model.model_dump_json().encode()))

        assert endpoint.operation is not None
        try:
            with tracing.span(
                endpoint.kind,
                kind="server",
                parent=message.headers,
                messaging__system="nats",
                hythe__request_id=context.request_id,
            ) as span:
                try:
                    answer = answer_of(await endpoint.operation(context, request, progress))
                except HytheError as error:
                    if not isinstance(error, NotFound):
                        span.fail(error.whole)  # that something is not there is an answer, not a fault
                    note_refusal(endpoint.kind, error, context.request_id)
                    return problem_of(error, self._host)
                except Exception as error:  # the endpoint: whatever a handler raises becomes an answer
                    log.exception("%s failed", endpoint.kind)
                    span.fail(f"{type(error).__name__}: {error}")
                    return fault(endpoint.kind, error, self._host)
                log.info("%s: done", endpoint.kind, extra={"request_id": context.request_id})
                return answer
        except asyncio.CancelledError:
            reason = f"{endpoint.kind}: {endpoint.service} stopped the work before its end"
            return problem_of(Unavailable(reason, service=endpoint.service, outcome="unknown"), self._host)

    async def _send_progress(self, running: _Running) -> None:
        while True:
            state, data = await running.outgoing.get()
            for inbox in tuple(running.followers):
                await self._tell(running, inbox, state, data)
            running.outgoing.task_done()

    async def _tell(self, running: _Running, inbox: str, state: str, data: bytes) -> None:
        """Send one message to a follower; the server's word that nobody listens there removes the follower."""
        watch = self._bus.calls.watch_once(lambda: self._gone(running, inbox))
        try:
            await self._bus.publish(inbox, data, {STATE_HEADER: state}, reply=watch)
        except Unavailable:
            pass  # disconnected: the follower asks again by request id
        except InvalidArgument as error:
            log.error(
                "a progress message could not be sent", extra={"kind": running.endpoint.kind, "cause": str(error)}
            )

    def _gone(self, running: _Running, inbox: str) -> None:
        if time.monotonic() - self._back_since < deadline.SILENCE_S:
            return  # the connection of this process broke: that of the follower may be back a little later
        running.followers.discard(inbox)
        if not running.followers and running.endpoint.abandoned == "cancel" and running.answer is None:
            log.info("%s cancelled: nobody follows it any more", running.endpoint.kind)
            self._cancel(running)

    def _cancel(self, running: _Running) -> None:
        if running.task is not None and running.answer is None:
            running.task.cancel()

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(deadline.ALIVE_INTERVAL_S)
            for running in tuple(self._running.values()):
                if running.answer is None:
                    running.outgoing.put_nowait(("alive", b"{}"))
