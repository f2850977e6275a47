"""When a lease ends: by time that this process has seen pass, never by comparing clocks of different machines or boots.

A lease of a duration has ended for a metadata process when that process has seen it unrenewed for so long on its own
CLOCK_BOOTTIME. A process that has just started has seen nothing yet: for it, each lease has its whole duration before it. So it
is for one that was stopped, suspended or cut off from the bus, for meanwhile nobody could renew anything.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hythe import clock
from hythe.errors import InvalidArgument
from hythe.labels import GC_EXPIRE

STEP_S = 5.0
"""A wall clock that moves by more than this against CLOCK_BOOTTIME has been stepped."""
ALIVE_S = 1.0
"""How often `LeaseClock.keep_alive` shows that the process runs."""
PAUSE_S = 10.0
"""A process that didn't run for so long may have missed renewals."""
_FORGET_UNASKED_S = 86_400.0
_FIRST_PRUNING = 4096
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(slots=True)
class _Sight:
    mark: str | int
    since_ms: int
    asked_ms: int


class LeaseClock:
    """Knows how long things have been seen without a change; may be asked from any thread."""

    def __init__(self, boottime_ms: Callable[[], int] = clock.boottime_ms) -> None:
        self._now_ms = boottime_ms
        self._lock = threading.Lock()
        self._sights: dict[str, _Sight] = {}
        self._prune_at = _FIRST_PRUNING
        self._alive_ms: int | None = None

    async def keep_alive(self) -> None:
        """Show that this process runs until cancelled; from the first moment on a pause of it is noticed."""
        while True:
            self.alive()
            await asyncio.sleep(ALIVE_S)

    def alive(self) -> None:
        """Show that this process runs."""
        with self._lock:
            self._alive_ms = self._awake_ms()

    def begin_anew(self) -> None:
        """Give everything its whole duration again: it could not be renewed."""
        with self._lock:
            self._sights.clear()

    def _awake_ms(self) -> int:
        """Return the time, after all was given its whole duration if the process hasn't run for long."""
        now_ms = self._now_ms()
        if self._alive_ms is not None and now_ms - self._alive_ms > PAUSE_S * 1000:
            self._sights.clear()
            self._alive_ms = now_ms
        return now_ms

    def __len__(self) -> int:
        """Return of how many things it knows since when they are unchanged."""
        return len(self._sights)

    def expired(self, key_text: str, mark: str | int, duration_s: float) -> bool:
        """Tell whether `key_text` has been seen with this `mark` for `duration_s` seconds; the first sight begins them.

        Args:
            key_text: what it is, the same at each question: kind, namespace and id.
            mark: another one after each renewal, also when the thing was removed and made again.
        """
        return self.left_s(key_text, mark, duration_s) <= 0

    def left_s(self, key_text: str, mark: str | int, duration_s: float) -> float:
        """As `expired`, but return how many seconds are left, 0 or less when it has ended."""
        with self._lock:
            now_ms = self._awake_ms()
            sight = self._sights.get(key_text)
            if sight is None or sight.mark != mark:
                self._prune(now_ms)
                sight = self._sights[key_text] = _Sight(mark, now_ms, now_ms)
            sight.asked_ms = now_ms
            return duration_s - (now_ms - sight.since_ms) / 1000

    def _prune(self, now_ms: int) -> None:
        """Forget what nobody asked about for a day: it is gone, or if it isn't, lives longer."""
        if len(self._sights) < self._prune_at:
            return
        oldest_ms = now_ms - _FORGET_UNASKED_S * 1000
        self._sights = {key: sight for key, sight in self._sights.items() if sight.asked_ms >= oldest_ms}
        self._prune_at = max(_FIRST_PRUNING, 2 * len(self._sights))


class StepWatch:
    """Notices that somebody set the wall clock, by which leases with ``containerd.io/gc.expire`` end."""

    def __init__(
        self, boottime_ms: Callable[[], int] = clock.boottime_ms, wall_ns: Callable[[], int] = clock.now_ns
    ) -> None:
        self._boottime_ms = boottime_ms
        self._wall_ns = wall_ns
        self._offset_ms = self._offset()
        self._stepped_ms: int | None = None
        self._by_s = 0.0

    def suspended_s(self, period_s: float) -> tuple[float, float]:
        """Look at the clocks, and return for how long nothing may be deleted that ended by wall clock.

        Args:
            period_s: how long after a step; the duration of a usual lease.

        Returns:
            Seconds that are left of it, 0 for none, and by how many seconds the wall clock was stepped last.
        """
        now_ms, offset_ms = self._boottime_ms(), self._offset()
        moved_s = (offset_ms - self._offset_ms) / 1000
        self._offset_ms = offset_ms
        if abs(moved_s) > STEP_S:
            self._stepped_ms, self._by_s = now_ms, moved_s
        if self._stepped_ms is None:
            return 0.0, 0.0
        return max(0.0, period_s - (now_ms - self._stepped_ms) / 1000), self._by_s

    def _offset(self) -> int:
        return self._wall_ns() // 1_000_000 - self._boottime_ms()


def ends_at_ns(labels: Mapping[str, str]) -> int | None:
    """Return when something ends by its label ``containerd.io/gc.expire``, in nanoseconds of wall clock since 1970.

    None where there is no such label, or it is no RFC 3339 time: that ends nothing, as in containerd.
    """
    text = labels.get(GC_EXPIRE, "")
    if not _RFC3339.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def check_expire(labels: Mapping[str, str]) -> None:
    """Return if there is no label ``containerd.io/gc.expire``, or it is empty or a time.

    Raises:
        InvalidArgument: it is something else.
    """
    if labels.get(GC_EXPIRE) and ends_at_ns(labels) is None:
        raise InvalidArgument(
            f"check label {GC_EXPIRE}: {labels[GC_EXPIRE][:64]!r} is not a time",
            next_step="write RFC 3339, e.g. 2026-11-23T20:15:00Z",
        )
