"""The asking side of the bus: requests and operations, their ids, deadlines and what is known when no answer comes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from hythe import deadline, subjects, tracing
from hythe.errors import DataLoss, DeadlineExceeded, HytheError, PermissionDenied, Unavailable
from hythe.identifiers import new_id
from hythe.subjects import HostSubject
from hythe.wire.base import read_reply
from hythe.wire.operation import (
    BEGIN_BEFORE_HEADER,
    ERROR_HEADER,
    REQUEST_ID_HEADER,
    STATE_HEADER,
    TIMEOUT_HEADER,
    OperationGet,
    OperationState,
)
from hythe.wire.problem import from_problem

if TYPE_CHECKING:
    from hythe.bus.connection import Bus, Message

ReplyT = TypeVar("ReplyT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)

MAX_WATCHES = 4096


class _Pending:
    """One request in flight: its messages as they come, or the error that ended it."""

    __slots__ = ("queue", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.queue: asyncio.Queue[Message | HytheError] = asyncio.Queue()


class Calls:
    """All requests in flight on one connection; one inbox subscription serves them all."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pending: dict[str, _Pending] = {}
        self._watches: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._farewells: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribe the inboxes of this connection."""
        await self._bus.subscribe(self._bus.inbox_wildcard, self._deliver)
        await self._bus.flush()

    def _deliver(self, message: Message) -> None:
        pending = self._pending.get(message.subject)
        if pending is not None:
            pending.queue.put_nowait(message)
        elif message.no_responders and (gone := self._watches.pop(message.subject, None)) is not None:
            gone()
        elif subjects.is_inbox(message.reply):
            task = asyncio.get_running_loop().create_task(self._say_gone(message.reply))
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)

    async def _say_gone(self, watch: str) -> None:
        """Tell the sender that nobody follows here any more, as the server would if this connection had ended."""
        try:
            await self._bus.publish(watch, b"", {"Status": "503"})
        except Unavailable:
            pass  # disconnected: then the server says it

    def watch_once(self, gone: Callable[[], None]) -> str:
        """Return a reply subject for one publish; `gone` is called if the server says that nobody listens there."""
        inbox = self._bus.new_inbox()
        self._watches[inbox] = gone
        if len(self._watches) > MAX_WATCHES:
            self._watches.popitem(last=False)
        return inbox

    def connection_lost(self) -> None:
        """Fail what is in flight: whether it took effect is unknown."""
        for pending in self._pending.values():
            pending.queue.put_nowait(
                Unavailable(
                    f"ask {_kind(pending.subject)}: the bus connection broke before the answer came",
                    service="nats-server",
                    outcome="unknown",
                )
            )

    def permission_refused(self, text: str) -> None:
        """Fail the requests whose subject the server named in a permission violation; `text` is lower case."""
        for pending in self._pending.values():
            if f'"{pending.subject.lower()}"' in text:
                pending.queue.put_nowait(
                    PermissionDenied(
                        f"ask {_kind(pending.subject)}: the key {self._bus.key_name!r} may not publish {pending.subject}",
                        next_step="use a key whose permissions cover it",
                    )
                )

    @asynccontextmanager
    async def _open(self, subject: str, data: bytes, headers: Mapping[str, str]) -> AsyncIterator[_Pending]:
        inbox = self._bus.new_inbox()
        pending = self._pending[inbox] = _Pending(subject)
        try:
            await self._bus.publish(subject, data, headers, reply=inbox)
            yield pending
        finally:
            del self._pending[inbox]

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str], timeout_s: float, *, service: str = ""
    ) -> Message:
        """Send raw bytes and return the first reply.

        Raises:
            Unavailable: not connected, or nobody listens: not executed.
            DeadlineExceeded: no reply within `timeout_s`: outcome unknown.
        """
        async with self._open(subject, data, headers) as pending:
            return await self._next(pending, timeout_s, service or _service(subject))

    async def _next(self, pending: _Pending, timeout_s: float, service: str) -> Message:
        try:
            item = await asyncio.wait_for(pending.queue.get(), timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"ask {_kind(pending.subject)}: {service} did not answer within {timeout_s:.1f} s",
                service=service,
                host=_host(pending.subject),
                next_step=f"`hythe status` shows whether {service} runs; `hythe logs --service {service}` what it says",
            ) from None
        if isinstance(item, HytheError):
            raise item
        if item.no_responders:
            raise Unavailable(
                f"ask {_kind(pending.subject)}: {service} is not running",
                service=service,
                host=_host(pending.subject),
                next_step=f"`hythe status` shows the processes; `hythe up` starts {service}",
            )
        return item

    async def call(
        self,
        subject: str,
        request: BaseModel,
        reply_type: type[ReplyT],
        *,
        request_id: str | None,
        timeout_s: float | None,
        begin_before: str | None,
    ) -> ReplyT:
        """Make one request and return its answer.

        Args:
            request_id: id kept across retries; for a creation the id of what it creates. A fresh one by default.
            timeout_s: seconds to wait; by default 1.5, or less when the caller's own deadline is nearer.
            begin_before: latest time at which the request may begin; by default this machine's wall clock plus the timeout.

        Raises:
            Unavailable: not connected or no responders: not executed. Broken in mid-flight: outcome unknown.
            DeadlineExceeded: no answer in time: outcome unknown.
            HytheError: whatever the service answered.
        """
        wait_s = deadline.nested_timeout_s() if timeout_s is None else timeout_s
        kind = _kind(subject)
        started = time.monotonic()
        code = "ok"
        try:
            with tracing.span(kind, kind="client", messaging__system="nats", messaging__destination__name=subject):
                headers = _headers(request_id or new_id(), wait_s, begin_before)
                message = await self.request(subject, request.model_dump_json().encode(), headers, wait_s)
                return _decode(message, reply_type, kind)
        except HytheError as error:
            code = error.code
            raise
        finally:
            self._bus.metrics.called.labels(kind, code).observe(time.monotonic() - started)

    @asynccontextmanager
    async def operate(
        self,
        subject: str,
        request: BaseModel,
        progress_type: type[ProgressT],
        result_type: type[ReplyT],
        *,
        request_id: str | None,
        begin_before: str | None,
    ) -> AsyncIterator[Operation[ProgressT, ReplyT]]:
        """Start or join an operation; leaving the block stops following it (and the work, if nobody else follows)."""
        request_id = request_id or new_id()
        kind = _kind(subject)
        started = time.monotonic()
        code = "ok"
        try:
            with tracing.span(kind, kind="client", messaging__system="nats", messaging__destination__name=subject):
                headers = _headers(request_id, deadline.DEFAULT_TIMEOUT_S, begin_before)
                async with self._open(subject, request.model_dump_json().encode(), headers) as pending:
                    yield Operation(self, pending, request_id, progress_type, result_type)
        except HytheError as error:
            code = error.code
            raise
        finally:
            self._bus.metrics.called.labels(kind, code).observe(time.monotonic() - started)

    async def state_of(self, subject: str, request_id: str) -> OperationState:
        """Ask the service that `subject` belongs to for the state of one of its operations."""
        parts = subject.split(".")
        asked = ".".join([*parts[:-2], "operation", "get"])
        return await self.call(
            asked, OperationGet(id=request_id), OperationState, request_id=None, timeout_s=None, begin_before=None
        )


class Operation(Generic[ProgressT, ReplyT]):
    """An operation being followed: iterate its progress; when that ends, `result` is there.

    Silence of 5 s is failure (not total time): the state is then asked for once, and an unknown outcome stays unknown.
    """

    def __init__(
        self,
        calls: Calls,
        pending: _Pending,
        request_id: str,
        progress_type: type[ProgressT],
        result_type: type[ReplyT],
    ) -> None:
        self._calls = calls
        self._pending = pending
        self._progress_type = progress_type
        self._result_type = result_type
        self._result: ReplyT | None = None
        self.request_id = request_id

    @property
    def result(self) -> ReplyT:
        """The operation's result; only after the iteration has ended normally."""
        assert self._result is not None, "the operation is not done"
        return self._result

    async def wait(self) -> ReplyT:
        """Follow to the end and return the result, ignoring progress."""
        async for _ in self:
            pass
        return self.result

    async def __aiter__(self) -> AsyncIterator[ProgressT]:
        kind, service = _kind(self._pending.subject), _service(self._pending.subject)
        silence_s = deadline.nested_timeout_s()
        while True:
            try:
                message = await self._calls._next(self._pending, silence_s, service)
            except DeadlineExceeded:
                if silence_s != deadline.SILENCE_S:
                    raise
                if await self._asked_after_silence():
                    return
                continue
            silence_s = deadline.SILENCE_S
            state = message.headers.get(STATE_HEADER)
            if state == "progress":
                yield _decode(message, self._progress_type, kind)
            elif state not in ("accepted", "alive"):
                self._result = _decode(message, self._result_type, kind)
                return

    async def _asked_after_silence(self) -> bool:
        state = await self._calls.state_of(self._pending.subject, self.request_id)
        if state.state == "running":
            return False
        if state.problem:
            raise from_problem(state.problem.encode())
        self._result = read_reply(self._result_type, state.result)
        return True


def _headers(request_id: str, timeout_s: float, begin_before: str | None) -> dict[str, str]:
    headers = {
        REQUEST_ID_HEADER: request_id,
        TIMEOUT_HEADER: str(int(timeout_s * 1000)),
        BEGIN_BEFORE_HEADER: begin_before or str(int((time.time() + timeout_s) * 1000)),
    }
    tracing.inject(headers)
    return headers


def _decode(message: Message, model: type[ReplyT], kind: str) -> ReplyT:
    if ERROR_HEADER in message.headers:
        raise from_problem(message.data)
    try:
        return read_reply(model, message.data)
    except ValidationError as error:
        raise DataLoss(f"read the answer of {kind}: not understood", cause=str(error), outcome="unknown") from error


def _parts(subject: str) -> subjects.RpcSubject | HostSubject | None:
    return subjects.parse_rpc(subject) if subject.startswith(subjects.PREFIX) and len(subject.split(".")) == 8 else None


def _kind(subject: str) -> str:
    parts = _parts(subject)
    return f"{parts.service}.{parts.noun}.{parts.verb}" if parts else subject


def _service(subject: str) -> str:
    parts = _parts(subject)
    return parts.service if parts else "nats-server"


def _host(subject: str) -> str:
    parts = _parts(subject)
    return parts.host if isinstance(parts, HostSubject) else ""
