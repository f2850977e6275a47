"""Operations in progress: who follows each, its heartbeat, its result, and what happens when nobody follows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass, field

from pydantic import BaseModel

from hythe import deadline, tracing
from hythe.bus.connection import Bus, Message
from hythe.bus.endpoint import Context, Endpoint
from hythe.bus.replies import Answer, answer_of, problem_of, send
from hythe.errors import Conflict, HytheError, Internal, NotFound, ResourceExhausted, Unavailable
from hythe.metrics import Metrics
from hythe.wire.operation import STATE_HEADER, OperationState

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    endpoint: Endpoint
    body: str
    followers: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    answer: Answer | None = None
    outgoing: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)


class Operations:
    """All operations of one service, by (namespace, request id); done ones are remembered for a minute."""

    def __init__(self, bus: Bus, metrics: Metrics, host: str, most: int, remember_s: float) -> None:
        self._bus = bus
        self._metrics = metrics
        self._host = host
        self._most = most
        self._remember_s = remember_s
        self._running: dict[tuple[str, str], _Running] = {}
        self._heartbeat: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell followers each second that their operations are alive."""
        self._heartbeat = asyncio.get_running_loop().create_task(self._beat_for_ever(), name="operations-alive")

    async def stop(self) -> None:
        """Cancel what runs; followers are told that the outcome is unknown."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        tasks = [running.task for running in self._running.values() if running.task and not running.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)

    def state(self, namespace: str, request_id: str) -> OperationState:
        """Return the state of an operation.

        Raises:
            NotFound: this process knows none of that id.
        """
        running = self._running.get((namespace, request_id))
        if running is None:
            raise NotFound(f"find operation {request_id}: not known here", outcome="unknown")
        if running.answer is None:
            return OperationState(id=request_id, state="running")
        text = running.answer.data.decode()
        if running.answer.code == "ok":
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
        running = self._running.get(key)
        if running is not None and running.answer is not None and running.answer.code != "ok":
            running = None  # a failure is not remembered: the caller may try again
        if running is not None:
            if running.body != body:
                raise Conflict(f"{endpoint.kind}: request id {context.request_id} came before with another body")
            if running.answer is not None:
                await send(self._bus, message.reply, running.answer)
                return
            running.followers.add(message.reply)
            await self._tell(running, message.reply, "accepted", b"")
            return
        if len(self._running) >= self._most:
            raise ResourceExhausted(f"{endpoint.kind}: {self._most} operations are in progress", outcome="not started")
        running = self._running[key] = _Running(endpoint, body, {message.reply})
        await self._tell(running, message.reply, "accepted", b"")
        running.task = asyncio.get_running_loop().create_task(self._run(key, running, context, request, message))

    async def _run(
        self, key: tuple[str, str], running: _Running, context: Context, request: BaseModel, message: Message
    ) -> None:
        endpoint = running.endpoint
        started = time.monotonic()
        tracing.namespace.set(context.namespace)
        deadline.current.set(None)
        sender = asyncio.get_running_loop().create_task(self._send_progress(running))

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
                    span.fail(error.message)
                    answer = problem_of(error, self._host)
                except Exception as error:  # the endpoint: whatever a handler raises becomes an answer
                    log.exception("%s failed", endpoint.kind)
                    cause = f"{type(error).__name__}: {error}"
                    span.fail(cause)
                    answer = problem_of(
                        Internal(f"{endpoint.kind}: a fault of hythe-{endpoint.service}", cause=cause), self._host
                    )
        except asyncio.CancelledError:
            reason = f"{endpoint.kind}: {endpoint.service} stopped the work before its end"
            answer = problem_of(Unavailable(reason, service=endpoint.service, outcome="unknown"), self._host)
        running.answer = answer
        await running.outgoing.join()
        sender.cancel()
        for inbox in running.followers:
            await send(self._bus, inbox, answer)
        self._note(endpoint, answer, time.monotonic() - started)
        asyncio.get_running_loop().call_later(self._remember_s, self._forget, key, running)

    def _forget(self, key: tuple[str, str], running: _Running) -> None:
        if self._running.get(key) is running:
            del self._running[key]

    def _note(self, endpoint: Endpoint, answer: Answer, elapsed_s: float) -> None:
        self._metrics.served.labels(endpoint.kind, answer.code).observe(elapsed_s)
        endpoint.figures.requests += 1
        endpoint.figures.processing_ns += int(elapsed_s * 1e9)
        if answer.code != "ok":
            endpoint.figures.errors += 1
            endpoint.figures.last_error = answer.code

    async def _send_progress(self, running: _Running) -> None:
        while True:
            state, data = await running.outgoing.get()
            try:
                for inbox in tuple(running.followers):
                    await self._tell(running, inbox, state, data)
            finally:
                running.outgoing.task_done()

    async def _tell(self, running: _Running, inbox: str, state: str, data: bytes) -> None:
        """Send one message to a follower; the server's word that nobody listens there removes the follower."""
        watch = self._bus.calls.watch_once(lambda: self._gone(running, inbox))
        try:
            await self._bus.publish(inbox, data or b"{}", {STATE_HEADER: state}, reply=watch)
        except Unavailable:
            pass  # disconnected: the follower asks again by request id

    def _gone(self, running: _Running, inbox: str) -> None:
        running.followers.discard(inbox)
        unfinished = running.task is not None and not running.task.done()
        if not running.followers and unfinished and running.endpoint.abandoned == "cancel" and running.answer is None:
            log.info("%s cancelled: nobody follows it any more", running.endpoint.kind)
            assert running.task is not None
            running.task.cancel()

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(deadline.ALIVE_INTERVAL_S)
            for running in tuple(self._running.values()):
                if running.answer is None:
                    running.outgoing.put_nowait(("alive", b""))
