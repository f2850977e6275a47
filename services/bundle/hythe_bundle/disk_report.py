"""How much disk the snapshots and volumes of this host take, and how much of it a collection would give back."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from hythe.errors import NotFound
from hythe.ports.snapshots import Snapshotter
from hythe_bundle.collecting import Collector
from hythe_bundle.volume_keeping import Volumes

MEASURE_S = 4.0
"""What isn't measured after that long counts with no bytes. Committed snapshots are measured once, so asking again helps."""


@dataclass(slots=True)
class Row:
    """One kind of thing; see `hythe.wire.gc.GcUsageRow`."""

    kind: Literal["snapshots", "containers", "volumes"]
    total: int = 0
    active: int = 0
    size_bytes: int = 0
    reclaimable_bytes: int = 0

    def add(self, size_bytes: int, *, active: bool, reclaimable: bool) -> None:
        """Count one thing."""
        self.total += 1
        self.active += active
        self.size_bytes += size_bytes
        if reclaimable:
            self.reclaimable_bytes += size_bytes


class DiskReport:
    """Measures what there is."""

    def __init__(self, snapshots: Snapshotter, collector: Collector, volumes: Volumes) -> None:
        self._snapshots = snapshots
        self._collector = collector
        self._volumes = volumes

    async def rows(self, roots: Collection[str] | None) -> tuple[list[Row], int]:
        """Return committed and writable snapshots and volumes, and how many could not be measured in time.

        Args:
            roots: snapshots that metadata refers to; None if they can't be told, and so all count as active.
        """
        until_s, unmeasured = time.monotonic() + MEASURE_S, 0
        committed, writable, volumes = Row("snapshots"), Row("containers"), Row("volumes")
        graph, kept = await self._collector.kept(roots or ())
        for node in graph.nodes.values():
            if node.kind == "view":
                continue
            size_bytes = 0
            if time.monotonic() < until_s:
                try:
                    size_bytes = (await self._snapshots.usage(node.name)).size_bytes
                except NotFound:
                    continue  # gone meanwhile
            else:
                unmeasured += 1
            active = roots is None or node.name in kept
            (committed if node.kind == "committed" else writable).add(size_bytes, active=active, reclaimable=not active)
        for volume in self._volumes.all():
            size_bytes = 0
            if time.monotonic() < until_s:
                size_bytes = await self._volumes.usage_bytes(volume)
            else:
                unmeasured += 1
            active = bool(self._volumes.users(volume))
            volumes.add(size_bytes, active=active, reclaimable=not active and volume.anonymous)
        return [committed, writable, volumes], unmeasured
