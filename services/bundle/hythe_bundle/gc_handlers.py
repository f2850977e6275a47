"""Requests of the one who collects garbage: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from dataclasses import asdict

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.gc_trust import StoreMark
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from hythe_bundle.collecting import Collector
from hythe_bundle.disk_report import DiskReport
from hythe_bundle.snapshot_graph import Reference


class GcHandlers:
    """The endpoints of garbage collection."""

    def __init__(self, collector: Collector, report: DiskReport, instance: str) -> None:
        """`instance` is this life of the process."""
        self._collector = collector
        self._report = report
        self._instance = instance

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("gc", "begin", wire.GcBegin, self.begin, scope="host")
        service.unary("gc", "mark", wire.GcSnapshotMark, self.mark, scope="host")
        service.unary("gc", "sweep", wire.GcSnapshotSweep, self.sweep, scope="host")
        service.unary("gc", "trust", wire.GcTrust, self.trust, scope="host")
        service.unary("gc", "explain", wire.GcExplain, self.explain, scope="host")
        service.unary("gc", "usage", wire.GcUsageGet, self.usage, scope="host")

    async def begin(self, context: Context, request: wire.GcBegin) -> wire.GcBegun:
        """Answer ``gc.begin``."""
        begun = await self._collector.begin(_mark(request))
        return wire.GcBegun(
            instance=self._instance,
            trusted=begun.trusted,
            reason=begun.reason,
            snapshotter=self._collector.snapshotter,
        )

    async def mark(self, context: Context, request: wire.GcSnapshotMark) -> wire.GcMarked:
        """Answer ``gc.mark``."""
        marked = await self._collector.mark(request.generation, request.instance, request.roots)
        return wire.GcMarked(references=[_reference(found) for found in marked.references], unmarked=marked.unmarked)

    async def sweep(self, context: Context, request: wire.GcSnapshotSweep) -> wire.GcSwept:
        """Answer ``gc.sweep``."""
        swept = await self._collector.sweep(
            request.generation, request.instance, request.after, request.limit, dry_run=request.dry_run
        )
        return wire.GcSwept(
            removed=list(swept.removed),
            kept=dict(swept.kept),
            freed_bytes=swept.freed_bytes,
            carried_out=swept.carried_out,
            next=swept.next,
        )

    async def trust(self, context: Context, request: wire.GcTrust) -> Empty:
        """Answer ``gc.trust``."""
        await self._collector.trust(_mark(request))
        return Empty()

    async def explain(self, context: Context, request: wire.GcExplain) -> wire.GcExplained:
        """Answer ``gc.explain``."""
        found = await self._collector.explain(request.name)
        return wire.GcExplained(
            snapshotter=self._collector.snapshotter,
            size_bytes=found.size_bytes,
            snapshots=[
                wire.GcExplainedSnapshot(name=node.name, parent=node.parent, held=found.held.get(node.name, ""))
                for node in found.above
            ],
            references=[_reference(reference) for reference in found.references],
        )

    async def usage(self, context: Context, request: wire.GcUsageGet) -> wire.GcUsage:
        """Answer ``gc.usage``."""
        rows, unmeasured = await self._report.rows(request.roots)
        return wire.GcUsage(rows=[wire.GcUsageRow(**asdict(row)) for row in rows], unmeasured=unmeasured)


def _mark(request: wire.GcBegin | wire.GcTrust) -> StoreMark:
    return StoreMark(request.store_id, request.era, request.revision, request.generation, request.process)


def _reference(found: Reference) -> wire.GcSnapshotReference:
    return wire.GcSnapshotReference(
        snapshot=found.snapshot, kind=found.kind, name=found.name, via=found.via, back=found.back
    )
