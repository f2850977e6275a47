"""One process's connection to the bus: how it connects, what it promises while disconnected, and its mux of replies."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import nats.aio.client
import nats.aio.msg
import nats.errors
from nats.aio.subscription import Subscription as NatsSubscription
from pydantic import BaseModel

from hythe import deadline, subjects
from hythe.bus.calls import Calls, Operation
from hythe.errors import Conflict, DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from hythe.metrics import Metrics
from hythe.settings import Settings

log = logging.getLogger(__name__)

ReplyT = TypeVar("ReplyT", bound=BaseModel)
ProgressT = TypeVar("ProgressT", bound=BaseModel)

MAX_MESSAGE_BYTES = 4 << 20
_WRONG_SEQUENCE_CODES = (10071, 10164)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it arrived. Header names are lower case as sent by Hythe."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    reply: str = ""

    @property
    def no_responders(self) -> bool:
        """Tell whether this is the server's word that nobody listens (status 503)."""
        return not self.data and self.headers.get("Status") == "503"


class Subscription:
    """A standing subscription; `unsubscribe` ends it."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def unsubscribe(self) -> None:
        """Stop receiving; harmless when the connection is gone."""
        try:
            await self._inner.unsubscribe()
        except (nats.errors.BadSubscriptionError, nats.errors.ConnectionClosedError):
            pass


class Bus:
    """A connection that reconnects for ever and never sends a message later than its caller was told.

    While disconnected, `publish`, `call` and `operate` fail at once with Unavailable, outcome "not started"; what was
    in flight when the connection broke fails with outcome "unknown".
    """

    def __init__(self, client: nats.aio.client.Client, key_name: str, metrics: Metrics) -> None:
        self._client = client
        self.key_name = key_name
        self.metrics = metrics
        self._on_reconnect: list[Callable[[], None]] = []
        self._prefix = f"{subjects.inbox_prefix(key_name)}.{client.new_inbox().rpartition('.')[2]}"
        self._tokens = itertools.count(1)
        self.calls = Calls(self)

    @classmethod
    async def connect(cls, settings: Settings, key_name: str, metrics: Metrics, *, timeout_s: float = 10.0) -> Bus:
        """Connect with the key `key_name` of this stack, waiting up to `timeout_s` for the server.

        Raises:
            FailedPrecondition: there is no key of that name.
            Unavailable: no bus answers in time, or it refuses the key.
        """
        seed = settings.keys_dir / f"{key_name}.nk"
        if not seed.exists():
            raise FailedPrecondition(f"connect to the bus: no key {seed}", next_step="`hythe up` makes the keys")
        client = nats.aio.client.Client()
        bus: Bus | None = None

        async def on_error(error: Exception) -> None:
            metrics.bus_errors.labels(type(error).__name__).inc()
            if bus is not None:
                bus._see_error(error)

        async def on_disconnect() -> None:
            metrics.connected.set(0)
            if bus is not None:
                log.warning("bus connection lost")
                bus.calls.connection_lost()

        async def on_reconnect() -> None:
            metrics.connected.set(1)
            metrics.reconnects.inc()
            log.info("bus connection restored")
            if bus is not None:
                for callback in bus._on_reconnect:
                    callback()

        limit = deadline.Deadline.after(timeout_s)
        while True:
            try:
                await client.connect(
                    _url(settings),
                    name=f"hythe-{key_name}",
                    nkeys_seed=str(seed),
                    inbox_prefix=subjects.inbox_prefix(key_name),
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    pending_size=0,
                )
                break
            except (OSError, nats.errors.Error, TimeoutError) as error:
                await client.close()
                if limit.remaining_s() == 0:
                    raise Unavailable(
                        f"connect to the bus at {_url(settings)}: {error}",
                        service="nats-server",
                        next_step="start the stack with `hythe up --detach`",
                    ) from error
                await asyncio.sleep(0.05)
                client = nats.aio.client.Client()
        metrics.connected.set(1)
        bus = cls(client, key_name, metrics)
        await bus.calls.start()
        return bus

    @property
    def connected(self) -> bool:
        """Tell whether messages can be sent now."""
        return self._client.is_connected

    @property
    def server_version(self) -> str:
        """Version of the server connected to last, e.g. ``2.15.1``."""
        return str(self._client.connected_server_version)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` on each later reconnect, after the subscriptions are back."""
        self._on_reconnect.append(callback)

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
            InvalidArgument: larger than the 4 MiB that Hythe allows.
        """
        if len(data) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"publish {subject}: {len(data)} bytes are more than the limit of {MAX_MESSAGE_BYTES}"
            )
        try:
            await self._client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except (
            nats.errors.OutboundBufferLimitError,
            nats.errors.ConnectionClosedError,
            nats.errors.ConnectionDrainingError,
        ) as error:
            raise Unavailable(
                f"publish {subject}: not connected to the bus, nothing was sent", service="nats-server"
            ) from error

    async def publish_stored(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float = 5.0
    ) -> int:
        """Publish to a JetStream subject and wait until the server has stored the message; answer its stream sequence.

        Raises:
            Conflict: an ``nats-expected-…`` header was not met; details ``last_sequence`` where the server says it.
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

        async def on_message(message: nats.aio.msg.Msg) -> None:
            callback(Message(message.subject, message.data, message.headers or {}, message.reply))

        try:
            return Subscription(await self._client.subscribe(subject, queue=queue, cb=on_message))
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
        """Wait until the server has taken everything sent so far, subscriptions included."""
        try:
            await self._client.flush(5)
        except (nats.errors.Error, TimeoutError) as error:
            raise DeadlineExceeded(f"flush the bus connection: {error}", service="nats-server") from error

    async def close(self) -> None:
        """Send what is pending and close."""
        try:
            if self._client.is_connected:
                await self._client.flush(2)
        except (nats.errors.Error, TimeoutError):
            pass
        await self._client.close()

    def _see_error(self, error: Exception) -> None:
        text = str(error)
        lowered = text.lower()
        if "permissions violation" in lowered:
            log.error("bus permission refused", extra={"cause": text})
            self.calls.permission_refused(lowered)
        elif isinstance(error, nats.errors.SlowConsumerError):
            log.error("bus messages dropped: slow consumer", extra={"subject": error.subject})
        else:
            log.warning("bus error", extra={"cause": text})


def _url(settings: Settings) -> str:
    if settings.nats_url:
        return settings.nats_url
    try:
        url = json.loads(Path(settings.bus_file).read_text())["url"]
    except (FileNotFoundError, KeyError, ValueError):
        raise Unavailable(
            f"find the bus: no {settings.bus_file}",
            service="nats-server",
            next_step="start the stack with `hythe up --detach`",
        ) from None
    return str(url)
