"""The owners of content and snapshots on every host, asked over the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.gc_trust import StoreMark
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from hythe_metadata.contents import Told
from hythe_metadata.gc.owners import (
    Begun,
    Explained,
    HostUsage,
    HostUsages,
    Owner,
    SnapshotLink,
    SnapshotReference,
    Sweep,
    Swept,
    ToldPage,
)

BEGIN_S = 5.0
LIST_S = 10.0
MARK_S = 30.0
SWEEP_S = 60.0
"""A sweep tells after 10 s where to go on, but what it has begun with by then it ends."""
ASK_S = 3.0

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class BusOwners:
    """A body of `hythe_metadata.gc.owners.Owners`: requests on host subjects, each with its deadline."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def begin(self, host: str, owner: Owner, mark: StoreMark) -> Begun:
        """See `hythe_metadata.gc.owners.Owners.begin`."""
        request = wire.GcBegin(**asdict(mark))
        answer = await self._ask(host, owner, "begin", request, wire.GcBegun, BEGIN_S)
        return Begun(answer.instance, answer.trusted, answer.reason, answer.shared, answer.snapshotter)

    async def trust(self, host: str, owner: Owner, mark: StoreMark) -> None:
        """See `hythe_metadata.gc.owners.Owners.trust`."""
        request = wire.GcTrust(**asdict(mark))
        await self._ask(host, owner, "trust", request, Empty, BEGIN_S)

    async def content(self, host: str, after: int, limit: int) -> ToldPage:
        """See `hythe_metadata.gc.owners.Owners.content`."""
        request = wire.GcContentList(after=after, limit=limit)
        page = await self._ask(host, "distribution", "list", request, wire.GcContentPage, LIST_S)
        told = [
            Told(each.sequence, each.namespace, each.digest, each.size_bytes, each.labels, each.gone)
            for each in page.records
        ]
        return ToldPage(told, page.next, page.more)

    async def sweep_content(self, host: str, sweep: Sweep, namespace: str, digests: Sequence[str]) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_content`."""
        request = wire.GcContentSweep(
            generation=sweep.generation,
            instance=sweep.instance,
            namespace=namespace,
            digests=list(digests),
            dry_run=sweep.dry_run,
        )
        return _swept(await self._ask(host, "distribution", "sweep", request, wire.GcSwept, SWEEP_S))

    async def sweep_ingests(self, host: str, sweep: Sweep, keep: Sequence[tuple[str, str]]) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_ingests`."""
        request = wire.GcIngestSweep(
            generation=sweep.generation,
            instance=sweep.instance,
            keep=[wire.GcIngest(namespace=namespace, reference=reference) for namespace, reference in keep],
            dry_run=sweep.dry_run,
        )
        return _swept(await self._ask(host, "distribution", "ingests", request, wire.GcSwept, SWEEP_S))

    async def mark_snapshots(
        self, host: str, generation: int, instance: str, roots: Sequence[str]
    ) -> Sequence[SnapshotReference]:
        """See `hythe_metadata.gc.owners.Owners.mark_snapshots`."""
        request = wire.GcSnapshotMark(generation=generation, instance=instance, roots=list(roots))
        marked = await self._ask(host, "bundle", "mark", request, wire.GcMarked, MARK_S)
        return [_reference(each) for each in marked.references]

    async def sweep_snapshots(self, host: str, sweep: Sweep, after: str) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_snapshots`."""
        request = wire.GcSnapshotSweep(
            generation=sweep.generation, instance=sweep.instance, after=after, dry_run=sweep.dry_run
        )
        return _swept(await self._ask(host, "bundle", "sweep", request, wire.GcSwept, SWEEP_S))

    async def explain(self, host: str, name: str) -> Explained:
        """See `hythe_metadata.gc.owners.Owners.explain`."""
        answer = await self._ask(host, "bundle", "explain", wire.GcExplain(name=name), wire.GcExplained, ASK_S)
        return Explained(
            answer.snapshotter,
            answer.size_bytes,
            [SnapshotLink(each.name, each.parent, each.held) for each in answer.snapshots],
            [_reference(each) for each in answer.references],
        )

    async def usage(self, host: str, roots: Sequence[str] | None) -> HostUsages:
        """See `hythe_metadata.gc.owners.Owners.usage`."""
        request = wire.GcUsageGet(roots=None if roots is None else list(roots))
        answer = await self._ask(host, "bundle", "usage", request, wire.GcUsage, LIST_S)
        rows = [
            HostUsage(row.kind, row.total, row.active, row.size_bytes, row.reclaimable_bytes) for row in answer.rows
        ]
        return HostUsages(rows, answer.unmeasured)

    async def _ask(
        self, host: str, owner: Owner, verb: str, request: BaseModel, reply: type[ReplyT], timeout_s: float
    ) -> ReplyT:
        subject = subjects.host_rpc(subjects.NO_NAMESPACE, host, owner, "gc", verb)
        return await self._bus.call(subject, request, reply, timeout_s=timeout_s)


def _swept(answer: wire.GcSwept) -> Swept:
    return Swept(answer.removed, answer.kept, answer.freed_bytes, answer.carried_out, answer.next)


def _reference(each: wire.GcSnapshotReference) -> SnapshotReference:
    return SnapshotReference(each.snapshot, each.kind, each.name, each.via, each.back)
