"""Finds one container by id, name or unique prefix: in metadata, or, while that is away, in what the hosts report."""

from __future__ import annotations

from dataclasses import dataclass

from hythe.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from hythe.wire.agent import ContainerStatus
from hythe.wire.container import ContainerRecord, Epoch
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts


@dataclass(frozen=True, slots=True)
class Found:
    """A container with what is known of it; at least one of record and status is set.

    Attributes:
        away: why metadata could not be asked; then there is no record.
    """

    id: str
    host: str
    record: ContainerRecord | None
    status: ContainerStatus | None
    away: Unavailable | DeadlineExceeded | None = None

    @property
    def warnings(self) -> list[str]:
        """What the user should know: that it is unclaimed, or that metadata is away."""
        if self.record is not None:
            return []
        if self.away is not None:
            return [f"metadata is away: {self.away.message}"]
        return [f"container {self.id} is unclaimed: no record of it exists"]

    @property
    def epoch(self) -> Epoch:
        """The epoch that a command derived from this knowledge carries."""
        if self.record is not None:
            return self.record.epoch
        assert self.status is not None
        return self.status.epoch or Epoch(era=0, revision=0)


async def find(metadata: Metadata, hosts: Hosts, namespace: str, key: str) -> Found:
    """Return the container that `key` names.

    Raises:
        NotFound: neither metadata nor a host knows it.
        InvalidArgument: the prefix fits several, or is empty.
        Unavailable, DeadlineExceeded: metadata is away and no host knows it.
    """
    if not key:
        raise InvalidArgument("find a container: no id or name was given")
    away: Unavailable | DeadlineExceeded | None = None
    try:
        record = await metadata.get(namespace, key)
        await hosts.heard({record.host})
        host = hosts.view.hosts.get(record.host)
        return Found(record.id, record.host, record, host.containers.get(record.id) if host else None)
    except NotFound:
        pass
    except (Unavailable, DeadlineExceeded) as error:
        away = error
    await hosts.heard(set())
    status = _in_view(hosts, namespace, key)
    if status is not None:
        return Found(status.id, status.host, None, status, away)
    if away is not None:
        raise away
    raise NotFound(
        f"find container {key!r} in namespace {namespace}: no such container",
        next_step="`hythe ps -a` lists the containers",
        details={"kind": "container"},
    )


def _in_view(hosts: Hosts, namespace: str, key: str) -> ContainerStatus | None:
    all_here = [s for h in hosts.known() for s in h.containers.values() if s.namespace == namespace]
    exact = [s for s in all_here if key in (s.id, s.name)]
    found = exact or [s for s in all_here if s.id.startswith(key)]
    if len(found) > 1:
        names = ", ".join(f"{s.id[:12]} ({s.name} on {s.host})" for s in found)
        raise InvalidArgument(f"find container {key!r}: fits several: {names}", next_step="give more digits of the id")
    return found[0] if found else None
