"""Subject → store → reply, for leases and for what is about to be brought."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.wire import leases as wire
from hythe.wire.base import Empty
from hythe.wire.gc import StoreMark
from hythe_metadata import contents, leases
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.lease_records import LeaseRecord, Resource, left_s
from hythe_metadata.record_handlers import message, origin_of
from hythe_metadata.records import RecordStore


class LeaseHandlers:
    """The endpoints of leases, and ``content.refer``."""

    def __init__(self, store: RecordStore, clock: LeaseClock, collect: Callable[[], Awaitable[object]]) -> None:
        """`collect` carries out a collection; awaited where somebody removes a lease and wants to have the room back."""
        self._store = store
        self._clock = clock
        self._collect = collect

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("lease", "create", wire.LeaseCreate, self.create, scope="any")
        service.unary("lease", "get", wire.LeaseGet, self.get, scope="any")
        service.unary("lease", "list", wire.LeaseList, self.list, scope="any")
        service.unary("lease", "add", wire.LeaseAdd, self.add, scope="any")
        service.unary("lease", "drop", wire.LeaseDrop, self.drop, scope="any")
        service.unary("lease", "renew", wire.LeaseRenew, self.renew, scope="any")
        service.unary("lease", "label", wire.LeaseLabel, self.label, scope="any")
        service.unary("lease", "remove", wire.LeaseRemove, self.remove, scope="any")
        service.unary("content", "refer", wire.ContentRefer, self.refer, scope="any")

    async def create(self, context: Context, request: wire.LeaseCreate) -> wire.LeaseRecord:
        """``lease.create``."""
        wish = leases.LeaseWish(request.id, request.labels, request.duration_s, _resources(request.resources))
        return self._message(await self._store.change(leases.create(origin_of(context), wish)))

    async def get(self, context: Context, request: wire.LeaseGet) -> wire.LeaseRecord:
        """``lease.get``."""
        return self._message(await self._store.read(leases.get(context.namespace, request.id)))

    async def list(self, context: Context, request: wire.LeaseList) -> wire.LeasePage:
        """``lease.list``."""
        listed = leases.list_all(context.namespace, request.after, request.limit, request.filters)
        page = await self._store.read(listed)
        return wire.LeasePage(leases=[self._message(lease) for lease in page.records], next=page.next)

    async def add(self, context: Context, request: wire.LeaseAdd) -> wire.LeaseRecord:
        """``lease.add``."""
        work = leases.add(origin_of(context), request.id, _resources(request.resources), self._clock)
        return self._message(await self._store.change(work))

    async def drop(self, context: Context, request: wire.LeaseDrop) -> wire.LeaseRecord:
        """``lease.drop``."""
        work = leases.drop(origin_of(context), request.id, _resources(request.resources))
        return self._message(await self._store.change(work))

    async def renew(self, context: Context, request: wire.LeaseRenew) -> Empty:
        """``lease.renew``."""
        left_s(await self._store.change(leases.renew(origin_of(context), request.id, self._clock)), self._clock)
        return Empty()

    async def label(self, context: Context, request: wire.LeaseLabel) -> wire.LeaseRecord:
        """``lease.label``."""
        work = leases.label(origin_of(context), request.id, request.labels)
        return self._message(await self._store.change(work))

    async def remove(self, context: Context, request: wire.LeaseRemove) -> Empty:
        """``lease.remove``; a repetition collects again, in case the first was cut short."""
        await self._store.change(leases.remove(origin_of(context), request.id))
        if request.sync:
            await self._collect()
        return Empty()

    async def refer(self, context: Context, request: wire.ContentRefer) -> StoreMark:
        """``content.refer``."""
        references = [contents.Reference(content.digest, content.labels) for content in request.content]
        work = contents.refer(origin_of(context), request.lease, request.duration_s, references)
        reached = await self._store.change(work)
        left_s(reached.lease, self._clock)  # it begins to watch this life of the lease
        return StoreMark(
            store_id=self._store.store_id,
            era=self._store.era,
            revision=reached.revision,
            generation=reached.generation,
        )

    def _message(self, lease: LeaseRecord) -> wire.LeaseRecord:
        """Return the message form of a lease; the clock begins to watch a life of it that it hasn't seen before."""
        left = left_s(lease, self._clock)
        return message(wire.LeaseRecord, lease, left_s=left, expired=left is not None and left <= 0)


def _resources(given: Iterable[wire.LeaseResource]) -> tuple[Resource, ...]:
    return tuple(Resource(resource.kind, resource.name) for resource in given)
