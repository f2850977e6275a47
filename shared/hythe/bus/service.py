"""The answering side of the bus: one bounded task per request, deadlines, request ids, spans, errors, discovery."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

from pydantic import BaseModel

from hythe import asking, deadline, subjects, tracing
from hythe.bus.arrival import check_begin_before, parse, request_id_of, timeout_s_of
from hythe.bus.asker_headers import asker_of
from hythe.bus.discovery import Discovery
from hythe.bus.endpoint import Abandoned, Context, Endpoint, Progress, Scope
from hythe.bus.message import Message, Subscription
from hythe.bus.operations import Operations
from hythe.bus.remembered import Remembered
from hythe.bus.replies import Answer, answer_of, fault, note_refusal, problem_of, send
from hythe.errors import Conflict, HytheError, NotFound, ResourceExhausted, Unavailable, Unimplemented
from hythe.process_runner import Process
from hythe.subjects import HostSubject
from hythe.wire.operation import OperationGet, OperationState

__all__ = ["Context", "Service"]

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", bound=BaseModel)
P = ParamSpec("P")

Around = Callable[[], AbstractContextManager[None]]
"""Gives the block that a request needs around it."""

MAX_REQUESTS = 256
STOP_WITHIN_S = 3.0


class Service:
    """A service of one process: register endpoints, then `start`."""

    def __init__(self, process: Process, name: str, around: Around | None = None) -> None:
        """Make the service `name`; each handler runs in a block that `around` gives."""
        self._around = around
        self._process = process
        self._bus = process.bus
        self._metrics = process.metrics
        self.name = name
        self._endpoints: dict[tuple[Scope, str, str], Endpoint] = {}
        self._subscriptions: list[Subscription] = []
        self._unary: dict[tuple[str, str], tuple[str, asyncio.Future[Answer]]] = {}
        self._answered: Remembered[tuple[str, str]] = Remembered()
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations = Operations(self._bus, self._metrics, process.settings.host)
        self._discovery = Discovery(process, name, self._served)
        self.unary("operation", "get", OperationGet, self._operation_get, scope="any")
        self.unary("operation", "get", OperationGet, self._operation_get, scope="host")

    def unary(
        self,
        noun: str,
        verb: str,
        request_type: type[RequestT],
        handler: Callable[[Context, RequestT], Awaitable[BaseModel]],
        *,
        scope: Scope,
    ) -> None:
        """Answer a request by one reply. A repeat of a request id gets the first answer again, as long as it is kept."""
        work = self._within(handler)
        self._endpoints[scope, noun, verb] = Endpoint(self.name, noun, verb, scope, request_type, unary=work)

    def operation(
        self,
        noun: str,
        verb: str,
        request_type: type[RequestT],
        handler: Callable[[Context, RequestT, Progress], Awaitable[BaseModel]],
        *,
        scope: Scope,
        abandoned: Abandoned = "continue",
    ) -> None:
        """Answer a request that may take long: accepted at once, then progress, then the result.

        A repeat of a request id joins the work in progress. With ``abandoned="cancel"`` the handler is cancelled when
        nobody follows any more.
        """
        self._endpoints[scope, noun, verb] = Endpoint(
            self.name, noun, verb, scope, request_type, operation=self._within(handler), abandoned=abandoned
        )

    def _within(self, handler: Callable[P, Awaitable[BaseModel]]) -> Callable[P, Awaitable[BaseModel]]:
        around = self._around
        if around is None:
            return handler

        async def scoped(*args: P.args, **kwargs: P.kwargs) -> BaseModel:
            with around():
                return await handler(*args, **kwargs)

        return scoped

    def _scopes(self) -> set[Scope]:
        return {scope for scope, noun, _ in self._endpoints if noun != "operation"}

    def _served(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints.values() if endpoint.scope in self._scopes()]

    async def start(self) -> None:
        """Subscribe; requests are answered when this returns.

        Raises:
            PermissionDenied: the key of this process may not answer for this service.
        """
        if "any" in self._scopes():
            subject = subjects.rpc_of_service(self.name)
            self._subscriptions.append(await self._bus.subscribe(subject, self._receive, queue=self.name))
        if "host" in self._scopes():
            subject = subjects.host_rpc_of_service(self._process.settings.host, self.name)
            self._subscriptions.append(await self._bus.subscribe(subject, self._receive))
        self._subscriptions += await self._discovery.start()
        self._operations.start()
        await self._bus.flush()

    async def stop(self) -> None:
        """Take no more requests, finish the short ones, tell followers of operations that this process goes."""
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=STOP_WITHIN_S)
            for task in unfinished:
                task.cancel()
        await self._operations.stop(STOP_WITHIN_S)

    def _receive(self, message: Message) -> None:
        if not subjects.may_answer(message.subject, message.reply):
            self._metrics.refused.labels("reply-not-inbox").inc()
            log.error(
                "dropped a request whose reply is no inbox of its caller",
                extra={"subject": message.subject, "reply": message.reply},
            )
        elif len(self._tasks) >= MAX_REQUESTS:
            self._metrics.refused.labels("too-many").inc()
            refusal = ResourceExhausted(f"{self.name}: {MAX_REQUESTS} requests are in progress", outcome="not started")
            self._spawn(send(self._bus, message.reply, self._problem(refusal)))
        else:
            self._spawn(self._handle(message))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, message: Message) -> None:
        started = time.monotonic()
        self._metrics.in_flight.inc()
        endpoint: Endpoint | None = None
        answer: Answer | None = None
        try:
            parts = subjects.parse_rpc(message.subject)
            on_host = isinstance(parts, HostSubject)
            endpoint = self._endpoints.get(("host" if on_host else "any", parts.noun, parts.verb))
            if endpoint is None:
                raise Unimplemented(f"{self.name} has no {parts.noun}.{parts.verb} on this kind of subject")
            request_id = request_id_of(message.headers, endpoint.kind)
            caller = "" if isinstance(parts, HostSubject) else parts.caller
            asker = asker_of(message.headers, caller, request_id)
            context = Context(parts.namespace, caller, request_id, message.subject, asker)
            check_begin_before(message.headers, endpoint.kind)
            request = parse(endpoint, message.data)
            if endpoint.operation is not None:
                await self._operations.begin(endpoint, context, request, message)
            else:
                answer = await self._answer_unary(endpoint, context, request, message)
        except HytheError as error:
            answer = self._problem(error)
        finally:
            self._metrics.in_flight.dec()
        if answer is not None:
            await send(self._bus, message.reply, answer)
            elapsed_s = time.monotonic() - started
            self._metrics.served.labels(endpoint.kind if endpoint else "unknown", answer.code).observe(elapsed_s)
            if endpoint is not None:
                endpoint.figures.note(answer.code, elapsed_s)

    async def _answer_unary(self, endpoint: Endpoint, context: Context, request: BaseModel, message: Message) -> Answer:
        key = (message.subject, context.request_id)
        body = hashlib.sha256(message.data).hexdigest()
        running, kept = self._unary.get(key), self._answered.get(key)
        if running is not None and running[0] == body:
            return await asyncio.shield(running[1])
        if kept is not None and kept.body == body:
            return kept.answer
        if running is not None or kept is not None:
            raise Conflict(f"{endpoint.kind}: request id {context.request_id} came before with another body")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._unary[key] = (body, future)
        answer = await self._run_unary(endpoint, context, request, message)
        future.set_result(answer)
        del self._unary[key]
        if answer.code == "ok":  # a failure is not remembered: the caller may try again
            self._answered.keep(key, body, answer)
        return answer

    async def _run_unary(self, endpoint: Endpoint, context: Context, request: BaseModel, message: Message) -> Answer:
        assert endpoint.unary is not None
        tracing.namespace.set(context.namespace)
        asking.current.set(context.asker)
        try:
            timeout_s = timeout_s_of(message.headers, endpoint.kind)
            deadline.current.set(None if timeout_s is None else deadline.Deadline.after(timeout_s))
            with tracing.span(
                endpoint.kind,
                kind="server",
                parent=message.headers,
                messaging__system="nats",
                hythe__request_id=context.request_id,
            ) as span:
                try:
                    return answer_of(await endpoint.unary(context, request))
                except HytheError as error:
                    if not isinstance(error, NotFound):
                        span.fail(error.whole)  # that something is not there is an answer, not a fault
                        note_refusal(endpoint.kind, error, context.request_id)
                    return self._problem(error)
                except Exception as error:  # the endpoint: whatever a handler raises becomes an answer
                    log.exception("%s failed", endpoint.kind)
                    span.fail(f"{type(error).__name__}: {error}")
                    return fault(endpoint.kind, error, self._process.settings.host)
        except HytheError as error:
            return self._problem(error)
        except asyncio.CancelledError:
            return self._problem(
                Unavailable(f"{endpoint.kind}: {self.name} is stopping", service=self.name, outcome="unknown")
            )

    def _problem(self, error: HytheError) -> Answer:
        return problem_of(error, self._process.settings.host)

    async def _operation_get(self, context: Context, request: OperationGet) -> OperationState:
        return self._operations.state(context.namespace, request.id)
