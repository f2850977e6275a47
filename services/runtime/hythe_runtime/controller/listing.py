"""``ps``: records of intent joined with what the hosts report; goes on, with a warning, when metadata is away."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hythe.errors import DeadlineExceeded, Unavailable
from hythe.wire.agent import ContainerStatus
from hythe.wire.container import ContainerRecord
from hythe.wire.runtime import Listed, ListResult
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.view import HostView


class Listing:
    """Answers what runs where."""

    def __init__(self, metadata: Metadata, hosts: Hosts) -> None:
        self._metadata = metadata
        self._hosts = hosts

    async def containers(self, namespace: str, every: bool) -> ListResult:
        """Return the containers of `namespace` (empty: of all), newest first; only running ones unless `every`."""
        warnings: list[str] = []
        records: list[ContainerRecord] = []
        try:
            records = [record async for record in self._metadata.records(namespace)]
        except (Unavailable, DeadlineExceeded) as error:
            warnings.append(f"metadata is away, so names and wishes may be out of date: {error.message}")
        await self._hosts.heard({record.host for record in records})
        listed = join(records, self._hosts.known(), namespace, time.monotonic())
        stale = sorted({_host_of(item) for item in listed if item.stale})
        warnings += [f"host {host} is not heard of: what is shown of it is old or only wished" for host in stale]
        shown = listed if every else [item for item in listed if _may_run(item)]
        return ListResult(containers=shown, warnings=warnings)


def _may_run(item: Listed) -> bool:
    """Tell whether a container runs, or is wished to while its host is not heard of."""
    if item.status is not None:
        return item.status.status == "running"
    return item.stale and item.record is not None and item.record.desired == "running"


def join(
    records: Iterable[ContainerRecord], hosts: Iterable[HostView[ContainerStatus]], namespace: str, now: float
) -> list[Listed]:
    """Return each container once: recorded ones with their status, then the unclaimed ones that only a host knows."""
    by_host = {host.host: host for host in hosts}
    listed: list[Listed] = []
    claimed: set[str] = set()
    for record in records:
        claimed.add(record.id)
        host = by_host.get(record.host)
        if host is not None and host.complete and record.id in host.gone:
            continue
        status = host.containers.get(record.id) if host else None
        listed.append(Listed(record=record, status=status, stale=host is None or not host.fresh(now)))
    for host in by_host.values():
        for status in host.containers.values():
            if status.id not in claimed and namespace in ("", status.namespace):
                listed.append(Listed(status=status, stale=not host.fresh(now)))
    return sorted(listed, key=_created_at, reverse=True)


def _created_at(item: Listed) -> str:
    if item.record is not None:
        return item.record.created_at
    return item.status.created_at if item.status is not None else ""


def _host_of(item: Listed) -> str:
    if item.record is not None:
        return item.record.host
    return item.status.host if item.status is not None else ""
