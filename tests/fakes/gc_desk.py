"""The owners of one host, in memory, answering on a real bus in the messages of real owners."""

from __future__ import annotations

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.gc_trust import StoreMark
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from hythe_metadata.gc.owners import Owner, SnapshotReference, Sweep, Swept
from tests.fakes.gc_owners import FakeOwners


class GcDesk:
    """One owner of `owners` as a service."""

    def __init__(self, owners: FakeOwners, host: str, owner: Owner) -> None:
        self._owners = owners
        self._host = host
        self._owner = owner

    def register(self, service: Service) -> None:
        """Add the endpoints that this owner has."""
        service.unary("gc", "begin", wire.GcBegin, self.begin, scope="host")
        service.unary("gc", "trust", wire.GcTrust, self.trust, scope="host")
        if self._owner == "distribution":
            service.unary("gc", "list", wire.GcContentList, self.list, scope="host")
            service.unary("gc", "sweep", wire.GcContentSweep, self.sweep_content, scope="host")
            service.unary("gc", "ingests", wire.GcIngestSweep, self.ingests, scope="host")
        else:
            service.unary("gc", "mark", wire.GcSnapshotMark, self.mark, scope="host")
            service.unary("gc", "sweep", wire.GcSnapshotSweep, self.sweep_snapshots, scope="host")
            service.unary("gc", "explain", wire.GcExplain, self.explain, scope="host")
            service.unary("gc", "usage", wire.GcUsageGet, self.usage, scope="host")

    async def begin(self, context: Context, request: wire.GcBegin) -> wire.GcBegun:
        """Answer ``gc.begin``."""
        begun = await self._owners.begin(self._host, self._owner, _mark(request))
        return wire.GcBegun(
            instance=begun.instance,
            trusted=begun.trusted,
            reason=begun.reason,
            shared=begun.shared,
            snapshotter=begun.snapshotter,
        )

    async def trust(self, context: Context, request: wire.GcTrust) -> Empty:
        """Answer ``gc.trust``."""
        await self._owners.trust(self._host, self._owner, _mark(request))
        return Empty()

    async def list(self, context: Context, request: wire.GcContentList) -> wire.GcContentPage:
        """Answer ``gc.list``."""
        page = await self._owners.content(self._host, request.after, request.limit)
        records = [
            wire.GcContent(
                sequence=told.sequence,
                namespace=told.namespace,
                digest=told.digest,
                size_bytes=told.size_bytes,
                labels=dict(told.labels),
                gone=told.gone,
            )
            for told in page.told
        ]
        return wire.GcContentPage(records=records, next=page.next, more=page.more)

    async def sweep_content(self, context: Context, request: wire.GcContentSweep) -> wire.GcSwept:
        """Answer ``distribution.gc.sweep``."""
        sweep = Sweep(request.generation, request.instance, request.dry_run)
        return _swept(await self._owners.sweep_content(self._host, sweep, request.namespace, request.digests))

    async def ingests(self, context: Context, request: wire.GcIngestSweep) -> wire.GcSwept:
        """Answer ``gc.ingests``."""
        sweep = Sweep(request.generation, request.instance, request.dry_run)
        keep = [(ingest.namespace, ingest.reference) for ingest in request.keep]
        return _swept(await self._owners.sweep_ingests(self._host, sweep, keep))

    async def mark(self, context: Context, request: wire.GcSnapshotMark) -> wire.GcMarked:
        """Answer ``gc.mark``."""
        found = await self._owners.mark_snapshots(self._host, request.generation, request.instance, request.roots)
        return wire.GcMarked(references=[_reference(each) for each in found])

    async def sweep_snapshots(self, context: Context, request: wire.GcSnapshotSweep) -> wire.GcSwept:
        """Answer ``bundle.gc.sweep``."""
        sweep = Sweep(request.generation, request.instance, request.dry_run)
        return _swept(await self._owners.sweep_snapshots(self._host, sweep, request.after))

    async def explain(self, context: Context, request: wire.GcExplain) -> wire.GcExplained:
        """Answer ``gc.explain``."""
        found = await self._owners.explain(self._host, request.name)
        return wire.GcExplained(
            snapshotter=found.snapshotter,
            size_bytes=found.size_bytes,
            snapshots=[
                wire.GcExplainedSnapshot(name=link.name, parent=link.parent, held=link.held) for link in found.snapshots
            ],
            references=[_reference(each) for each in found.references],
        )

    async def usage(self, context: Context, request: wire.GcUsageGet) -> wire.GcUsage:
        """Answer ``gc.usage``."""
        found = await self._owners.usage(self._host, request.roots)
        rows = [
            wire.GcUsageRow.model_validate(
                {
                    "kind": row.kind,
                    "total": row.total,
                    "active": row.active,
                    "size_bytes": row.size_bytes,
                    "reclaimable_bytes": row.reclaimable_bytes,
                }
            )
            for row in found.rows
        ]
        return wire.GcUsage(rows=rows, unmeasured=found.unmeasured)


def _mark(request: wire.GcBegin | wire.GcTrust) -> StoreMark:
    return StoreMark(request.store_id, request.era, request.revision, request.generation)


def _swept(swept: Swept) -> wire.GcSwept:
    return wire.GcSwept(
        removed=list(swept.removed),
        kept=dict(swept.kept),
        freed_bytes=swept.freed_bytes,
        carried_out=swept.carried_out,
        next=swept.next,
    )


def _reference(each: SnapshotReference) -> wire.GcSnapshotReference:
    return wire.GcSnapshotReference(
        snapshot=each.snapshot, kind=each.kind, name=each.name, via=each.via, back=each.back
    )
