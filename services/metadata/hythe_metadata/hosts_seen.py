"""Which hosts are alive: whose agents' heartbeats this process has heard, by its own CLOCK_BOOTTIME."""

from __future__ import annotations

import math
from collections.abc import Callable

from hythe import clock

FRESH_S = 5.0
_MOST_INSTANCES = 16


class HostsSeen:
    """Keeps when each process of each host's agent was last heard of."""

    def __init__(self, boottime_ms: Callable[[], int] = clock.boottime_ms) -> None:
        self._now_ms = boottime_ms
        self._began_ms = boottime_ms()
        self._heard_ms: dict[str, dict[str, int]] = {}

    def beat(self, host: str, instance: str) -> None:
        """Take a heartbeat of the agent process `instance` of a host."""
        heard = self._heard_ms.setdefault(host, {})
        heard.pop(instance, None)
        heard[instance] = self._now_ms()
        while len(heard) > _MOST_INSTANCES:
            del heard[next(iter(heard))]  # the one that is silent for longest

    def alive(self) -> set[str]:
        """Return the hosts that were heard of within the last 5 s."""
        oldest_ms = self._now_ms() - FRESH_S * 1000
        return {host for host, heard in self._heard_ms.items() if max(heard.values()) >= oldest_ms}

    def silent_s(self, host: str, instance: str | None = None) -> float:
        """Return for how many seconds a host, or one process of its agent, is silent; infinite if it was never heard of."""
        heard = self._heard_ms.get(host, {})
        at_ms = max(heard.values(), default=None) if instance is None else heard.get(instance)
        return math.inf if at_ms is None else (self._now_ms() - at_ms) / 1000

    def listening_s(self) -> float:
        """Return for how many seconds this process has listened: who wasn't heard of before may have beaten all the same."""
        return (self._now_ms() - self._began_ms) / 1000
