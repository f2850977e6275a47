"""The asking side of the bus: requests and operations, their ids, deadlines and what is known when no answer comes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from hythe import deadline, subjects, tracing
from hythe.bus.following import Operation
from hythe.bus.message import Message
from hythe.bus.requests import NATS_SERVER, decode, headers_of, host_of, kind_of, service_of
from hythe.errors import DeadlineExceeded, HytheError, PermissionDenied, Unavailable
from hythe.identifiers import new_id

if TYPE_CHECKING:
    from hythe.bus.connection import Bus

__all__ = ["Calls", "Operation", "Pending"]

ReplyT = TypeVar("ReplyT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)

MAX_WATCHES = 4096
CANCELLED = "Cancelled"


class Pending:
    """One request in flight: its messages as they come, or the error that ended it.

    Attributes:
        lost: the connection broke since the request was sent, or since this was last looked at.
    """

    __slots__ = ("lost", "queue", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.queue: asyncio.Queue[Message | HytheError] = asyncio.Queue()
        self.lost = False


class Calls:
    """All requests in flight on one connection; one inbox subscription serves them all."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pending: dict[str, Pending] = {}
        self._watches: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._farewells: set[asyncio.Task[None]] = set()

    async def wait_connected(self, timeout_s: float) -> bool:
        """Tell whether the connection is there, or is back within `timeout_s`."""
        return await self._bus.wait_connected(timeout_s)

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
            pending.lost = True
            pending.queue.put_nowait(
                Unavailable(
                    f"ask {kind_of(pending.subject)}: the bus connection broke before the answer came",
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
                        f"ask {kind_of(pending.subject)}: the key {self._bus.key_name!r} may not publish {pending.subject}",
                        next_step="use a key whose permissions cover it",
                    )
                )

    @asynccontextmanager
    async def _open(self, subject: str, data: bytes, headers: Mapping[str, str]) -> AsyncIterator[Pending]:
        inbox = self._bus.new_inbox()
        pending = self._pending[inbox] = Pending(subject)
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
            return await self.next(pending, timeout_s, service or service_of(subject))

    async def next(self, pending: Pending, timeout_s: float, service: str) -> Message:
        """Return the next message to a request in flight.

        Raises:
            Unavailable: nobody listens: not executed. Or the connection broke: outcome unknown.
            PermissionDenied: this key may not send the request.
            DeadlineExceeded: no message within `timeout_s`: outcome unknown.
        """
        try:
            item = await asyncio.wait_for(pending.queue.get(), timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"ask {kind_of(pending.subject)}: {service} did not answer within {timeout_s:.1f} s",
                service=service,
                host=host_of(pending.subject),
                next_step=f"`hythe status` shows whether {service} runs; `hythe logs --service {service}` what it says",
            ) from None
        if isinstance(item, HytheError):
            raise item
        if item.no_responders:
            if service == NATS_SERVER:
                raise Unavailable(f"ask {pending.subject}: no stream takes it", service=service)
            raise Unavailable(
                f"ask {kind_of(pending.subject)}: {service} is not running",
                service=service,
                host=host_of(pending.subject),
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
        kind = kind_of(subject)
        started = time.monotonic()
        code = "ok"
        try:
            with tracing.span(kind, kind="client", messaging__system="nats", messaging__destination__name=subject):
                headers = headers_of(request_id or new_id(), wait_s, begin_before)
                message = await self.request(subject, request.model_dump_json().encode(), headers, wait_s)
                return decode(message, reply_type, kind)
        except HytheError as error:
            code = error.code
            raise
        except BaseException:
            code = CANCELLED
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
        kind = kind_of(subject)
        started = time.monotonic()
        code = "ok"
        try:
            with tracing.span(kind, kind="client", messaging__system="nats", messaging__destination__name=subject):
                headers = headers_of(request_id, deadline.DEFAULT_TIMEOUT_S, begin_before)
                async with self._open(subject, request.model_dump_json().encode(), headers) as pending:
                    yield Operation(self, pending, request_id, progress_type, result_type)
        except HytheError as error:
            code = error.code
            raise
        except BaseException:
            code = CANCELLED
            raise
        finally:
            self._bus.metrics.called.labels(kind, code).observe(time.monotonic() - started)
