"""Requests of the one who collects garbage: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.digest import parse_digest
from hythe.gc_trust import StoreMark
from hythe.identifiers import check_namespace
from hythe.labels import GC
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from hythe_distribution.collecting import Collector, Swept
from hythe_distribution.leftovers import Named
from hythe_distribution.records import BlobChange
from hythe_distribution.workers import Workers


class GcHandlers:
    """The endpoints of garbage collection."""

    def __init__(self, collector: Collector, workers: Workers) -> None:
        """Answer in threads of `workers`."""
        self._collector = collector
        self._workers = workers

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("gc", "begin", wire.GcBegin, self.begin, scope="host")
        service.unary("gc", "list", wire.GcContentList, self.list, scope="host")
        service.unary("gc", "sweep", wire.GcContentSweep, self.sweep, scope="host")
        service.unary("gc", "ingests", wire.GcIngestSweep, self.ingests, scope="host")
        service.unary("gc", "trust", wire.GcTrust, self.trust, scope="host")

    async def begin(self, context: Context, request: wire.GcBegin) -> wire.GcBegun:
        """Answer ``gc.begin``."""
        begun = await self._workers.run(None, self._collector.begin, _mark(request))
        return wire.GcBegun(instance=begun.instance, trusted=begun.trusted, reason=begun.reason, shared=begun.shared)

    async def list(self, context: Context, request: wire.GcContentList) -> wire.GcContentPage:
        """Answer ``gc.list``."""
        changes, more = await self._workers.run(None, self._collector.changes, request.after, request.limit)
        following = changes[-1].sequence if changes else request.after
        return wire.GcContentPage(records=[_record(change) for change in changes], next=following, more=more)

    async def sweep(self, context: Context, request: wire.GcContentSweep) -> wire.GcSwept:
        """Answer ``gc.sweep``."""
        swept = await self._workers.run(
            None,
            self._collector.sweep,
            request.generation,
            request.instance,
            check_namespace(request.namespace),
            [parse_digest(digest) for digest in request.digests],
            dry_run=request.dry_run,
        )
        return _swept(swept)

    async def ingests(self, context: Context, request: wire.GcIngestSweep) -> wire.GcSwept:
        """Answer ``gc.ingests``."""
        swept = await self._workers.run(
            None,
            self._collector.sweep_leftovers,
            request.generation,
            request.instance,
            frozenset(Named(ingest.namespace, ingest.reference) for ingest in request.keep),
            dry_run=request.dry_run,
        )
        return _swept(swept)

    async def trust(self, context: Context, request: wire.GcTrust) -> Empty:
        """Answer ``gc.trust``."""
        await self._workers.run(None, self._collector.trust, _mark(request))
        return Empty()


def _mark(request: wire.GcBegin | wire.GcTrust) -> StoreMark:
    return StoreMark(request.store_id, request.era, request.revision, request.generation, request.process)


def _record(change: BlobChange) -> wire.GcContent:
    return wire.GcContent(
        sequence=change.sequence,
        namespace=change.namespace,
        digest=str(change.digest),
        size_bytes=change.size_bytes,
        labels={key: value for key, value in change.labels.items() if key.startswith(GC)},
        gone=change.gone,
    )


def _swept(swept: Swept) -> wire.GcSwept:
    return wire.GcSwept(
        removed=list(swept.removed),
        kept=dict(swept.kept),
        freed_bytes=swept.freed_bytes,
        carried_out=swept.carried_out,
        next=swept.next,
    )
