"""A message as it arrived, and a standing subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import nats.errors
from nats.aio.subscription import Subscription as NatsSubscription

DRAIN_WITHIN_S = 2.0


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
    """A standing subscription; `unsubscribe` or `drain` ends it."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def unsubscribe(self) -> None:
        """Stop receiving at once; harmless when the connection is gone."""
        try:
            await self._inner.unsubscribe()
        except (nats.errors.BadSubscriptionError, nats.errors.ConnectionClosedError):
            pass

    async def drain(self) -> None:
        """Stop receiving after what the server has sent already; without a server that answers, at once."""
        try:
            await asyncio.wait_for(self._inner.drain(), DRAIN_WITHIN_S)  # type: ignore[no-untyped-call]
        except (nats.errors.Error, TimeoutError):
            await self.unsubscribe()
