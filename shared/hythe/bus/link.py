"""How a process gets to the server of the bus, stays with it, and learns that it is gone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import nats.errors

from hythe import deadline, subjects
from hythe.bus.nats_client import RobustClient
from hythe.errors import DeadlineExceeded, FailedPrecondition, PermissionDenied, Unauthenticated, Unavailable
from hythe.metrics import Metrics
from hythe.settings import Settings

log = logging.getLogger(__name__)

TRY_S = 2.0
TRY_AGAIN_S = 0.05
RECONNECT_WAIT_S = 0.2
PING_INTERVAL_S = 5
MAX_PINGS_OUT = 2
FLUSH_WITHIN_S = 5


class Link:
    """A connection that reconnects for ever.

    Attributes:
        client: the nats-py client underneath.
        on_lost: called when the connection breaks, before anything else can be sent.
        on_restored: called after each reconnect, when the subscriptions are back.
        on_refused: called with the server's words, in lower case, when this key may not publish or subscribe something.
    """

    def __init__(self, key_name: str, metrics: Metrics) -> None:
        self.client = RobustClient(self._drop_malformed)
        self.on_lost: list[Callable[[], None]] = []
        self.on_restored: list[Callable[[], None]] = []
        self.on_refused: list[Callable[[str], None]] = []
        self._key_name = key_name
        self._metrics = metrics
        self._there = asyncio.Event()
        self._closed = asyncio.Event()
        self._was_there = False
        self._closing = False
        self._last_error: Exception | None = None
        self._refused_subscriptions: list[str] = []

    async def connect(self, settings: Settings, timeout_s: float) -> None:
        """Connect, waiting up to `timeout_s` for the server.

        Raises:
            FailedPrecondition: there is no key of that name.
            Unauthenticated: the server does not know the key.
            Unavailable: no server answers in time.
        """
        seed = settings.keys_dir / f"{self._key_name}.nk"
        if not seed.exists():
            raise FailedPrecondition(f"connect to the bus: no key {seed}", next_step="`hythe up` makes the keys")
        limit = deadline.Deadline.after(timeout_s)
        while not await self._try(url_of(settings), str(seed), max(0.05, min(TRY_S, limit.remaining_s()))):
            if "authorization" in str(self._last_error).lower():
                raise Unauthenticated(
                    f"connect to the bus at {url_of(settings)}: it does not know the key {seed}",
                    service="nats-server",
                    next_step="use a key of this stack: HYTHE_ROOT and HYTHE_STATE must belong together",
                )
            if limit.remaining_s() == 0:
                raise Unavailable(
                    f"connect to the bus at {url_of(settings)}: nothing answered within {timeout_s:.1f} s",
                    cause=str(self._last_error or ""),
                    service="nats-server",
                    next_step="start the stack with `hythe up --detach`",
                )
            await asyncio.sleep(TRY_AGAIN_S)
            self.client = RobustClient(self._drop_malformed)
        self.client.reconnect_for_ever(RECONNECT_WAIT_S)
        self._metrics.connected.set(1)
        self._was_there = True
        self._there.set()

    async def _try(self, url: str, seed: str, timeout_s: float) -> bool:
        """Tell whether the server took the connection; left to itself nats-py would try for ever."""
        self._last_error = None
        try:
            await self.client.connect(
                url,
                name=f"hythe-{self._key_name}",
                nkeys_seed=seed,
                inbox_prefix=subjects.inbox_prefix(self._key_name),
                error_cb=self._see_error,
                disconnected_cb=self._see_loss,
                reconnected_cb=self._see_return,
                closed_cb=self._see_close,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=TRY_AGAIN_S,  # type: ignore[arg-type]
                connect_timeout=timeout_s,  # type: ignore[arg-type]
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=MAX_PINGS_OUT,
                pending_size=0,
            )
        except (OSError, nats.errors.Error, TimeoutError) as error:
            self._last_error = self._last_error or error
            await self.close()
            self._closing = False
            self._closed.clear()
            return False
        return True

    @property
    def connected(self) -> bool:
        """Tell whether messages can be sent now."""
        return self.client.is_connected

    async def wait_connected(self, timeout_s: float) -> bool:
        """Tell whether the connection is there, or is back within `timeout_s`."""
        try:
            await asyncio.wait_for(self._there.wait(), timeout_s)
        except TimeoutError:
            return False
        return self.connected

    async def wait_closed(self) -> str:
        """Return, once the connection has ended for good or the server knows the key no more, what it said last."""
        await self._closed.wait()
        return str(self._last_error or "")

    async def flush(self) -> None:
        """Wait until the server has taken everything sent so far, subscriptions included.

        Raises:
            PermissionDenied: this key may not subscribe something that was subscribed.
            DeadlineExceeded: the server does not answer.
        """
        try:
            await self.client.flush(FLUSH_WITHIN_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise DeadlineExceeded(f"flush the bus connection: {error}", service="nats-server") from error
        refused, self._refused_subscriptions = self._refused_subscriptions, []
        if refused:
            raise PermissionDenied(
                f"subscribe: the key {self._key_name!r} may not",
                cause="; ".join(refused),
                next_step="use a key whose permissions cover it",
            )

    async def close(self) -> None:
        """Send what is pending and close."""
        self._closing = True
        try:
            if self.connected:
                await self.client.flush(2)
            await self.client.close()
        except (OSError, nats.errors.Error, TimeoutError):
            pass  # the connection is gone, and with it what was pending

    async def _see_error(self, error: Exception) -> None:
        self._metrics.bus_errors.labels(type(error).__name__).inc()
        self._last_error = error
        text = str(error) or type(error).__name__
        if "permissions violation" in text.lower():
            log.error("bus permission refused", extra={"cause": text})
            if "for subscription to" in text.lower():
                self._refused_subscriptions.append(text)
            for callback in self.on_refused:
                callback(text.lower())
        elif isinstance(error, nats.errors.SlowConsumerError):
            log.error("bus messages dropped: slow consumer", extra={"subject": error.subject})
        elif self._there.is_set():
            log.warning("bus error", extra={"cause": text})
        elif self._was_there and "authorization" in text.lower():
            self._closed.set()  # this process may not come back with the key that it has

    async def _see_loss(self) -> None:
        if not self._there.is_set():
            return
        self._there.clear()
        self._metrics.connected.set(0)
        if not self._closing:
            log.warning("bus connection lost")
        self.client.forget_unsent()
        for callback in self.on_lost:
            callback()

    async def _see_return(self) -> None:
        self._there.set()
        self._metrics.connected.set(1)
        self._metrics.reconnects.inc()
        log.info("bus connection restored")
        for callback in self.on_restored:
            callback()

    async def _see_close(self) -> None:
        self._closed.set()

    def _drop_malformed(self) -> None:
        self._metrics.refused.labels("malformed").inc()
        log.error("dropped a message whose subject or headers cannot be read")


def url_of(settings: Settings) -> str:
    """Return the address of the bus: ``NATS_URL``, else what `hythe up` wrote down.

    Raises:
        Unavailable: the stack is not up.
    """
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
