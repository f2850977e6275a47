"""What the hosts have reported: the full list of each agent, then its numbered changes; a gap asks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

StatusT = TypeVar("StatusT")

FRESH_S = 5.0
MAX_EARLY = 10_000


@dataclass(slots=True)
class HostView(Generic[StatusT]):
    """One host as last heard of. Clocks: `heard_at` is this process's monotonic clock, `boottime_ms` the host's own.

    Attributes:
        change: all changes of agent process `instance` up to this number are in `containers` and `gone`, if `complete`.
        complete: the full list of agent process `instance` was taken, and no change since is missing.
        early: changes that came while a full list was awaited, by number; they are repeated upon it.
    """

    host: str
    instance: str
    boot_id: str
    boottime_ms: int
    heard_at: float
    change: int = -1
    complete: bool = False
    containers: dict[str, StatusT] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    early: dict[int, tuple[str, StatusT | None]] = field(default_factory=dict)

    def fresh(self, now: float) -> bool:
        """Tell whether the host was heard of within the last 5 s."""
        return now - self.heard_at < FRESH_S

    def apply(self, container_id: str, status: StatusT | None) -> None:
        """Take one status; None means that the container is no more."""
        if status is None:
            self.containers.pop(container_id, None)
            self.gone.add(container_id)
        else:
            self.containers[container_id] = status


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
        return not known.complete or known.change < change

    def status(self, host: str, instance: str, change: int, container_id: str, status: StatusT | None) -> bool:
        """Take one numbered change; None means that the container is no more."""
        known = self.hosts.get(host)
        if known is None or known.instance != instance:
            return True
        if change <= known.change:
            return False
        if known.complete and change == known.change + 1:
            known.change = change
        else:
            known.complete = False
            if len(known.early) < MAX_EARLY:
                known.early[change] = (container_id, status)
        known.apply(container_id, status)  # also what came before its turn is newer than what was known of it
        return not known.complete

    def full(self, host: str, instance: str, change: int, containers: dict[str, StatusT], gone: frozenset[str]) -> bool:
        """Take the full list of a host, true up to `change` of the agent process `instance`, and what came meanwhile."""
        known = self.hosts.get(host)
        if known is None or known.instance != instance:
            return False
        if change < known.change or (known.complete and change == known.change):
            return not known.complete  # a list that was overtaken
        known.containers, known.gone, known.change = dict(containers), set(gone), change
        for number in sorted(known.early):
            if number == known.change + 1:
                known.apply(*known.early[number])
                known.change = number
        known.early = {number: early for number, early in known.early.items() if number > known.change}
        known.complete = not known.early
        return not known.complete
