"""Requests about snapshots: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from collections.abc import Sequence

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.ports.snapshots import Mount, Snapshot
from hythe.wire import snapshots as wire
from hythe.wire.base import Empty
from hythe.wire.bundle import Mount as WireMount
from hythe_bundle.user_snapshots import UserSnapshots


class SnapshotHandlers:
    """The endpoints of snapshots. What may take long is an operation."""

    def __init__(self, snapshots: UserSnapshots) -> None:
        self._snapshots = snapshots

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("snapshot", "list", wire.SnapshotList, self.snapshot_list, scope="host")
        service.unary("snapshot", "info", wire.SnapshotInfoGet, self.snapshot_info, scope="host")
        service.unary("snapshot", "mounts", wire.SnapshotMountsGet, self.snapshot_mounts, scope="host")
        service.unary("snapshot", "label", wire.SnapshotLabel, self.snapshot_label, scope="host")
        service.unary("snapshot", "view", wire.SnapshotView, self.snapshot_view, scope="host")
        service.unary("snapshot", "remove", wire.SnapshotRemove, self.snapshot_remove, scope="host")
        service.operation(
            "snapshot", "usage", wire.SnapshotUsageGet, self.snapshot_usage, scope="host", abandoned="cancel"
        )
        service.operation(
            "snapshot", "prepare", wire.SnapshotPrepare, self.snapshot_prepare, scope="host", abandoned="cancel"
        )
        service.operation(
            "snapshot", "commit", wire.SnapshotCommit, self.snapshot_commit, scope="host", abandoned="continue"
        )
        service.operation(
            "snapshot", "cleanup", wire.SnapshotCleanup, self.snapshot_cleanup, scope="host", abandoned="continue"
        )

    async def snapshot_list(self, context: Context, request: wire.SnapshotList) -> wire.SnapshotPage:
        """Answer ``snapshot.list``."""
        found, more = await self._snapshots.page(request.filters, request.after, request.limit)
        return wire.SnapshotPage(
            snapshots=[_info(snapshot) for snapshot in found], next=found[-1].name if more and found else ""
        )

    async def snapshot_info(self, context: Context, request: wire.SnapshotInfoGet) -> wire.SnapshotInfo:
        """Answer ``snapshot.info``."""
        return _info(await self._snapshots.info(request.name))

    async def snapshot_mounts(self, context: Context, request: wire.SnapshotMountsGet) -> wire.SnapshotMounts:
        """Answer ``snapshot.mounts``."""
        return _mounts(await self._snapshots.mounts(request.name))

    async def snapshot_label(self, context: Context, request: wire.SnapshotLabel) -> wire.SnapshotInfo:
        """Answer ``snapshot.label``."""
        return _info(await self._snapshots.label(request.name, request.labels))

    async def snapshot_view(self, context: Context, request: wire.SnapshotView) -> wire.SnapshotMounts:
        """Answer ``snapshot.view``."""
        return _mounts(await self._snapshots.view(request.name, request.parent, request.labels))

    async def snapshot_remove(self, context: Context, request: wire.SnapshotRemove) -> Empty:
        """Answer ``snapshot.remove``."""
        await self._snapshots.remove(request.name)
        return Empty()

    async def snapshot_usage(
        self, context: Context, request: wire.SnapshotUsageGet, progress: Progress
    ) -> wire.SnapshotUsage:
        """Answer ``snapshot.usage``."""
        found = await self._snapshots.usage(request.name)
        return wire.SnapshotUsage(size_bytes=found.size_bytes, inodes=found.inodes)

    async def snapshot_prepare(
        self, context: Context, request: wire.SnapshotPrepare, progress: Progress
    ) -> wire.SnapshotMounts:
        """Answer ``snapshot.prepare``."""
        return _mounts(await self._snapshots.prepare(request.name, request.parent, request.labels))

    async def snapshot_commit(self, context: Context, request: wire.SnapshotCommit, progress: Progress) -> Empty:
        """Answer ``snapshot.commit``."""
        await self._snapshots.commit(request.name, request.key, request.labels)
        return Empty()

    async def snapshot_cleanup(
        self, context: Context, request: wire.SnapshotCleanup, progress: Progress
    ) -> wire.SnapshotCleaned:
        """Answer ``snapshot.cleanup``."""
        return wire.SnapshotCleaned(removed=await self._snapshots.cleanup())


def _info(snapshot: Snapshot) -> wire.SnapshotInfo:
    return wire.SnapshotInfo(
        name=snapshot.name,
        kind=snapshot.kind,
        parent=snapshot.parent,
        created_at=snapshot.created_at,
        updated_at=snapshot.updated_at,
        labels=dict(snapshot.labels),
    )


def _mounts(mounts: Sequence[Mount]) -> wire.SnapshotMounts:
    return wire.SnapshotMounts(
        mounts=[
            WireMount(type=mount.type, source=mount.source, target=mount.target, options=list(mount.options))
            for mount in mounts
        ]
    )
