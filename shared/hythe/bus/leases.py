"""Leases, asked for at the metadata service over the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from hythe import deadline, subjects
from hythe.bus.connection import Bus
from hythe.gc_trust import StoreMark
from hythe.ports.leases import Referred
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from hythe.wire.leases import ContentRefer, ContentReference, LeaseRemove, LeaseRenew

TIMEOUT_S = 5.0
"""Longer than the usual request, where the caller has no deadline: his work would have to begin anew."""

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class BusLeases:
    """A body of `hythe.ports.leases.Leases`."""

    def __init__(self, bus: Bus, heard: Callable[[StoreMark], None] = lambda mark: None) -> None:
        """Tell `heard` how far the store of metadata is when it has answered; quick."""
        self._bus = bus
        self._heard = heard

    async def refer(self, namespace: str, lease: str, duration_s: float, contents: Sequence[Referred]) -> None:
        """See `Leases.refer`."""
        named = [ContentReference(digest=str(each.digest), labels=dict(each.labels)) for each in contents]
        request = ContentRefer(lease=lease, duration_s=duration_s, content=named)
        told = await self._ask(namespace, "content", "refer", request, wire.StoreMark)
        self._heard(StoreMark(told.store_id, told.era, told.revision, told.generation))

    async def renew(self, namespace: str, lease: str) -> None:
        """See `Leases.renew`."""
        await self._ask(namespace, "lease", "renew", LeaseRenew(id=lease), Empty)

    async def remove(self, namespace: str, lease: str) -> None:
        """See `Leases.remove`."""
        await self._ask(namespace, "lease", "remove", LeaseRemove(id=lease), Empty)

    async def _ask(self, namespace: str, noun: str, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        subject = subjects.rpc(namespace, self._bus.key_name, "metadata", noun, verb)
        timeout_s = TIMEOUT_S if deadline.current.get() is None else None
        return await self._bus.call(subject, request, reply, timeout_s=timeout_s)
