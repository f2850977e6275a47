"""What the hosts have reported: the full list of each agent, then its numbered changes; a gap asks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

StatusT = TypeVar("StatusT")

FRESH_S = 5.0


@dataclass(slots=True)
class HostView(Generic[StatusT]):
    """One host as last heard of. Clocks: `heard_at` is this process's monotonic clock, `boottime_ms` the host's own.

    Attributes:
        complete: the full list of agent process `instance` was taken, and no change since is missing.
    """

    host: str
    instance: str
    boot_id: str
    boottime_ms: int
    heard_at: float
    change: int = -1
    complete: bool = False
    containers: dict[str, StatusT] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    def fresh(self, now: float) -> bool:
        """Tell whether the host was heard of within the last 5 s."""
        return now - self.heard_at < FRESH_S


class View(Generic[StatusT]):
    """All hosts. Each method that takes a report tells whether the host's full list must be asked for."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostView[StatusT]] = {}

    def beat(self, host: str, instance: str, boot_id: str, boottime_ms: int, change: int, now: float) -> bool:
        """Take a heartbeat."""
        known = self.hosts.get(host)
        if known is None or known.instance != instance:
            known = self.hosts[host] = HostView(
                host, instance, boot_id, boottime_ms, now, containers=known.containers if known else {}
            )
        known.boot_id, known.boottime_ms, known.heard_at = boot_id, boottime_ms, now
        return not known.complete or known.change != change

    def status(self, host: str, instance: str, change: int, container_id: str, status: StatusT | None) -> bool:
        """Take one numbered change; None means that the container is no more."""
        known = self.hosts.get(host)
        if known is None or known.instance != instance or not known.complete:
            return True
        if change <= known.change:
            return False
        in_order = change == known.change + 1
        known.change = change
        known.complete = in_order
        if status is None:
            known.containers.pop(container_id, None)
            known.gone |= {container_id}
        else:
            known.containers[container_id] = status
        return not in_order

    def full(self, host: str, instance: str, change: int, containers: dict[str, StatusT], gone: frozenset[str]) -> None:
        """Take the full list of a host, true up to `change` of the agent process `instance`."""
        known = self.hosts.get(host)
        if known is None or known.instance != instance or known.change > change:
            return
        known.containers, known.gone, known.change, known.complete = containers, gone, change, True
