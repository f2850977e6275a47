"""Which servers are passed over for a while, because they could not be reached a moment ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hythe_distribution.hosts import Endpoint

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 60.0
MAX_ENDPOINTS = 1000


@dataclass(slots=True)
class _Outage:
    pause_s: float
    until: float
    being_tried: bool = False


class Breaker:
    """Remembers outages by endpoint, for all work of this process; safe to use from several threads.

    After a failure a server is passed over for 5 s, and for twice as long with each further one, up to 60 s. When that
    time is over, one caller tries it; the others pass it over until that one has reported.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know of no outage.

        Args:
            clock: gives seconds that never go back.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._outages: dict[Endpoint, _Outage] = {}

    def allows(self, endpoint: Endpoint) -> bool:
        """Tell whether a server may be tried now; who is told so after an outage is the one who tries it."""
        with self._lock:
            outage = self._outages.get(endpoint)
            if outage is None:
                return True
            now = self._clock()
            if now < outage.until:
                return False
            outage.until = now + outage.pause_s  # should the one who tries it never report, another does after that
            outage.being_tried = True
            return True

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a server could not be reached; reports of those who tried it at the same time count once."""
        with self._lock:
            now = self._clock()
            outage = self._outages.get(endpoint)
            if outage is None:
                if len(self._outages) >= MAX_ENDPOINTS:
                    del self._outages[next(iter(self._outages))]
                self._outages[endpoint] = _Outage(FIRST_PAUSE_S, now + FIRST_PAUSE_S)
            elif outage.being_tried or now >= outage.until:
                pause_s = min(outage.pause_s * 2, MAX_PAUSE_S)
                self._outages[endpoint] = _Outage(pause_s, now + pause_s)

    def worked(self, endpoint: Endpoint) -> None:
        """Note that a server has answered."""
        with self._lock:
            self._outages.pop(endpoint, None)
