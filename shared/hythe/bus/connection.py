"""One process's connection to the bus: what it promises while disconnected, stored messages, and its inboxes."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import nats.errors
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.calls import Calls, Operation
from hythe.bus.link import Link
from hythe.bus.message import Message, Subscription
from hythe.errors import Conflict, InvalidArgument, Unavailable
from hythe.metrics import Metrics
from hythe.settings import Settings

__all__ = ["MAX_MESSAGE_BYTES", "Bus", "Message", "Subscription"]

ReplyT = TypeVar("ReplyT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)

MAX_MESSAGE_BYTES = 4 << 20
_WRONG_SEQUENCE_CODES = (10071, 10164)


class Bus:
    """A connection that reconnects for ever and never sends a message later than its caller was told.

    While disconnected, `publish`, `call` and `operate` fail at once with Unavailable, outcome "not started"; what was
    in flight when the connection broke fails with outcome "unknown".
    """

    def __init__(self, link: Link, key_name: str, metrics: Metrics) -> None:
        self._link = link
        self.key_name = key_name
        self.metrics = metrics
        self._prefix = f"{subjects.inbox_prefix(key_name)}.{os.urandom(11).hex()}"
        self._tokens = itertools.count(1)
        self.calls = Calls(self)
        link.on_lost.append(self.calls.connection_lost)
        link.on_refused.append(self.calls.permission_refused)

    @classmethod
    async def connect(cls, settings: Settings, key_name: str, metrics: Metrics, *, timeout_s: float = 10.0) -> Bus:
        """Connect with the key `key_name` of this stack, waiting up to `timeout_s` for the server.

        Raises:
            FailedPrecondition: there is no key of that name.
            Unauthenticated: the server does not know the key.
            Unavailable: no server answers in time.
        """
        link = Link(key_name, metrics)
        await link.connect(settings, timeout_s)
        bus = cls(link, key_name, metrics)
        await bus.calls.start()
        return bus

    @property
    def connected(self) -> bool:
        """Tell whether messages can be sent now."""
        return self._link.connected

    @property
    def server_version(self) -> str:
        """Version of the server connected to last, e.g. ``2.15.1``."""
        return str(self._link.client.connected_server_version)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` on each later reconnect, after the subscriptions are back."""
        self._link.on_restored.append(callback)

    async def wait_connected(self, timeout_s: float) -> bool:
        """Tell whether the connection is there, or is back within `timeout_s`."""
        return await self._link.wait_connected(timeout_s)

    async def wait_closed(self) -> str:
        """Return, once the server has ended the connection for good, what it said last."""
        return await self._link.wait_closed()

    def new_inbox(self) -> str:
        """Return a fresh inbox subject below this connection's own prefix."""
        return f"{self._prefix}.{next(self._tokens)}"

    @property
    def inbox_wildcard(self) -> str:
        """Subscription to all inboxes made by `new_inbox`."""
        return f"{self._prefix}.*"

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send one message now, or fail.

        Raises:
            Unavailable: not connected; nothing was sent.
            InvalidArgument: larger than the 4 MiB that Hythe allows, or not a subject.
        """
        if len(data) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"publish {subject}: {len(data)} bytes are more than the limit of {MAX_MESSAGE_BYTES}"
            )
        try:
            await self._link.client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except (
            nats.errors.OutboundBufferLimitError,
            nats.errors.ConnectionClosedError,
            nats.errors.ConnectionDrainingError,
        ) as error:
            raise Unavailable(
                f"publish {subject}: not connected to the bus, nothing was sent", service="nats-server"
            ) from error
        except nats.errors.MaxPayloadError as error:
            raise InvalidArgument(
                f"publish {subject}: {len(data)} bytes are more than this nats-server allows"
            ) from error
        except (nats.errors.BadSubjectError, nats.errors.BadHeaderError) as error:
            raise InvalidArgument(f"publish {subject!r}: not a subject, or headers that cannot be sent") from error

    async def publish_stored(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float = 5.0
    ) -> int:
        """Publish to a JetStream subject and wait until the server has stored the message; answer its stream sequence.

        Raises:
            Conflict: a ``Nats-Expected-…`` header (spelt so) was not met; details ``last_sequence`` where the server says it.
            Unavailable: not connected, or no stream takes the subject.
            DeadlineExceeded: no acknowledgement in time; it may have been stored.
        """
        message = await self.calls.request(subject, data, headers or {}, timeout_s, service="nats-server")
        answer = json.loads(message.data)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in _WRONG_SEQUENCE_CODES:
            last = str(error.get("description", "")).rpartition(" ")[2]
            raise Conflict(f"store {subject}: {error.get('description')}", details={"last_sequence": last})
        raise Unavailable(f"store {subject}: {error.get('description')}", service="nats-server")

    async def last_stored(self, stream: str, subject: str) -> tuple[int, Message] | None:
        """Return (sequence, message) of the last message stored under `subject` (wildcards allowed), or None.

        Read through the stream's leader, so it sees every acknowledged message (never direct get).
        """
        answer = await self.calls.request(
            f"$JS.API.STREAM.MSG.GET.{stream}",
            json.dumps({"last_by_subj": subject}).encode(),
            {},
            5.0,
            service="nats-server",
        )
        parsed = json.loads(answer.data)
        if "error" in parsed:
            if parsed["error"].get("err_code") == 10037:
                return None
            raise Unavailable(f"read {stream}: {parsed['error'].get('description')}", service="nats-server")
        stored = parsed["message"]
        return int(stored["seq"]), Message(stored["subject"], base64.b64decode(stored.get("data", "")))

    async def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> Subscription:
        """Call `callback` for each message, in order; it must be quick, long work goes into a task of its own."""

        def take(name: str, data: bytes, headers: Mapping[str, str], reply: str) -> None:
            callback(Message(name, data, headers, reply))

        try:
            return Subscription(await self._link.client.subscribe_directly(subject, queue, take))
        except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError) as error:
            raise Unavailable(f"subscribe {subject}: the bus connection is closed", service="nats-server") from error

    async def call(
        self,
        subject: str,
        request: BaseModel,
        reply_type: type[ReplyT],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
        begin_before: str | None = None,
    ) -> ReplyT:
        """Make one request and return its answer; see `hythe.bus.calls.Calls.call`."""
        return await self.calls.call(
            subject, request, reply_type, request_id=request_id, timeout_s=timeout_s, begin_before=begin_before
        )

    @asynccontextmanager
    async def operate(
        self,
        subject: str,
        request: BaseModel,
        progress_type: type[ProgressT],
        result_type: type[ReplyT],
        *,
        request_id: str | None = None,
        begin_before: str | None = None,
    ) -> AsyncIterator[Operation[ProgressT, ReplyT]]:
        """Start or join an operation and follow it; see `hythe.bus.calls.Operation`."""
        async with self.calls.operate(
            subject, request, progress_type, result_type, request_id=request_id, begin_before=begin_before
        ) as operation:
            yield operation

    async def flush(self) -> None:
        """Wait until the server has taken everything sent so far, subscriptions included.

        Raises:
            PermissionDenied: this key may not subscribe something that was subscribed.
            DeadlineExceeded: the server does not answer.
        """
        await self._link.flush()

    async def close(self) -> None:
        """Send what is pending and close."""
        await self._link.close()
