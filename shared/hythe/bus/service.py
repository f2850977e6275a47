"""The answering side of the bus: one bounded task per request, deadlines, request ids, spans, errors, discovery."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hythe import clock, deadline, subjects, tracing
from hythe.bus.connection import Message, Subscription
from hythe.bus.discovery import Discovery
from hythe.bus.endpoint import Abandoned, Context, Endpoint, Progress, Scope
from hythe.bus.operations import Operations
from hythe.bus.replies import Answer, answer_of, problem_of, send
from hythe.errors import (
    Conflict,
    DeadlineExceeded,
    HytheError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from hythe.identifiers import new_id
from hythe.process_runner import Process
from hythe.subjects import HostSubject
from hythe.wire.operation import (
    BEGIN_BEFORE_HEADER,
    REQUEST_ID_HEADER,
    TIMEOUT_HEADER,
    OperationGet,
    OperationState,
)

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", bound=BaseModel)

MAX_REQUESTS = 256
MAX_OPERATIONS = 4096
REMEMBER_S = 60.0


class Service:
    """A service of one process: register endpoints, then `start`."""

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self._bus = process.bus
        self._metrics = process.metrics
        self.name = name
        self._endpoints: dict[tuple[Scope, str, str], Endpoint] = {}
        self._subscriptions: list[Subscription] = []
        self._unary: dict[tuple[str, str], tuple[str, asyncio.Future[Answer]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations = Operations(self._bus, self._metrics, process.settings.host, MAX_OPERATIONS, REMEMBER_S)
        self._discovery = Discovery(process, name, self._endpoints.values())
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
        """Answer a request by one reply. A repeat of a request id within 60 s gets the first answer again."""
        self._endpoints[scope, noun, verb] = Endpoint(self.name, noun, verb, scope, request_type, unary=handler)

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
            self.name, noun, verb, scope, request_type, operation=handler, abandoned=abandoned
        )

    async def start(self) -> None:
        """Subscribe; requests are answered when this returns."""
        wanted = {scope for scope, noun, _ in self._endpoints if noun != "operation"}
        if "any" in wanted:
            subject = subjects.rpc_of_service(self.name)
            self._subscriptions.append(await self._bus.subscribe(subject, self._receive, queue=self.name))
        if "host" in wanted:
            subject = subjects.host_rpc_of_service(self._process.settings.host, self.name)
            self._subscriptions.append(await self._bus.subscribe(subject, self._receive))
        self._subscriptions += await self._discovery.start()
        self._operations.start()
        await self._bus.flush()

    async def stop(self) -> None:
        """Take no more requests, finish the short ones, tell followers of operations that this process goes."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)
        await self._operations.stop()

    def _receive(self, message: Message) -> None:
        if not subjects.is_inbox(message.reply):
            self._metrics.refused.labels("reply-not-inbox").inc()
            log.error(
                "dropped a request whose reply is no inbox", extra={"subject": message.subject, "reply": message.reply}
            )
            return
        if len(self._tasks) >= MAX_REQUESTS:
            self._metrics.refused.labels("too-many").inc()
            refusal = ResourceExhausted(f"{self.name}: {MAX_REQUESTS} requests are in progress", outcome="not started")
            self._spawn(send(self._bus, message.reply, problem_of(refusal, self._process.settings.host)))
            return
        self._spawn(self._handle(message))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, message: Message) -> None:
        started = time.monotonic()
        self._metrics.in_flight.inc()
        kind, code, endpoint = "unknown", "ok", None
        try:
            parts = subjects.parse_rpc(message.subject)
            on_host = isinstance(parts, HostSubject)
            endpoint = self._endpoints.get(("host" if on_host else "any", parts.noun, parts.verb))
            if endpoint is None:
                raise Unimplemented(f"{self.name} has no {parts.noun}.{parts.verb} on this kind of subject")
            kind = endpoint.kind
            context = Context(
                parts.namespace,
                "" if isinstance(parts, HostSubject) else parts.caller,
                message.headers.get(REQUEST_ID_HEADER) or new_id(),
                message.subject,
            )
            _check_begin_before(message.headers.get(BEGIN_BEFORE_HEADER, ""), kind)
            request = _parse(endpoint, message.data)
            if endpoint.operation is not None:
                await self._operations.begin(endpoint, context, request, message)
                return
            code = await self._answer_unary(endpoint, context, request, message)
        except HytheError as error:
            code = error.code
            await send(self._bus, message.reply, problem_of(error, self._process.settings.host))
        finally:
            self._metrics.in_flight.dec()
            if endpoint is None or endpoint.operation is None or code != "ok":
                elapsed = time.monotonic() - started
                self._metrics.served.labels(kind, code).observe(elapsed)
                if endpoint is not None:
                    endpoint.figures.requests += 1
                    endpoint.figures.processing_ns += int(elapsed * 1e9)
                    if code != "ok":
                        endpoint.figures.errors += 1
                        endpoint.figures.last_error = code

    async def _answer_unary(self, endpoint: Endpoint, context: Context, request: BaseModel, message: Message) -> str:
        key = (message.subject, context.request_id)
        body = hashlib.sha256(message.data).hexdigest()
        known = self._unary.get(key)
        if known is None:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._unary[key] = (body, future)
            asyncio.get_running_loop().call_later(REMEMBER_S, self._unary.pop, key, None)
            answer = await self._run_unary(endpoint, context, request, message)
            future.set_result(answer)
            if answer.code != "ok":
                self._unary.pop(key, None)  # a failure is not remembered: the caller may try again
        elif known[0] != body:
            raise Conflict(f"{endpoint.kind}: request id {context.request_id} came before with another body")
        else:
            answer = await asyncio.shield(known[1])
        await send(self._bus, message.reply, answer)
        return answer.code

    async def _run_unary(self, endpoint: Endpoint, context: Context, request: BaseModel, message: Message) -> Answer:
        timeout_ms = message.headers.get(TIMEOUT_HEADER, "")
        tracing.namespace.set(context.namespace)
        deadline.current.set(deadline.Deadline.after(int(timeout_ms) / 1000) if timeout_ms.isdigit() else None)
        assert endpoint.unary is not None
        try:
            with tracing.span(
                endpoint.kind,
                kind="server",
                parent=message.headers,
                messaging__system="nats",
                hythe__request_id=context.request_id,
            ):
                try:
                    return answer_of(await endpoint.unary(context, request))
                except HytheError as error:
                    return self._failed(error)
                except Exception as error:  # the endpoint: whatever a handler raises becomes an answer
                    log.exception("%s failed", endpoint.kind)
                    return self._failed(
                        Internal(
                            f"{endpoint.kind}: a fault of hythe-{self.name}", cause=f"{type(error).__name__}: {error}"
                        )
                    )
        except asyncio.CancelledError:
            return self._failed(
                Unavailable(f"{endpoint.kind}: {self.name} is stopping", service=self.name, outcome="unknown")
            )

    def _failed(self, error: HytheError) -> Answer:
        return problem_of(error, self._process.settings.host)

    async def _operation_get(self, context: Context, request: OperationGet) -> OperationState:
        return self._operations.state(context.namespace, request.id)


def _parse(endpoint: Endpoint, data: bytes) -> Any:
    try:
        return endpoint.request_type.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidArgument(f"read the request {endpoint.kind}: {where}: {first['msg']}") from error


def _check_begin_before(value: str, kind: str) -> None:
    """Refuse a request that comes too late to begin (ARCHITECTURE §3).

    Raises:
        DeadlineExceeded: with outcome "not started".
        InvalidArgument: the header is neither ``<unix ms>`` nor ``<boot id>/<boottime ms>``.
    """
    if not value:
        return
    boot, _, moment = value.rpartition("/")
    if not moment.isdigit():
        raise InvalidArgument(f"{kind}: header {BEGIN_BEFORE_HEADER} is {value!r}")
    late = (boot != clock.boot_id() or clock.boottime_ms() > int(moment)) if boot else time.time() * 1000 > int(moment)
    if late:
        raise DeadlineExceeded(
            f"{kind}: the request arrived after the time by which it had to begin", outcome="not started"
        )
