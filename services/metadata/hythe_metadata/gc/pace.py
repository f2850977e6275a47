"""When collections begin by themselves: containerd's thresholds, and a timer beside them."""

from __future__ import annotations

from dataclasses import dataclass

STARTUP_S = 10.0
"""From the start of the process to its first collection by itself."""
LEAST_PAUSE_S = 5.0
"""Between two collections that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The settings.

    Attributes:
        mutations: after so many changes since the last collection one is due; 0: they don't count.
        deletions: after so many deletions one is due at once; 0: any deletion makes one due after the pause.
        interval_s: after so long one is due in any case; 0: never.
        pause: collections take at most this part of all time (but for those that are asked for or due at once); 0: no pause.
    """

    mutations: int = 100
    deletions: int = 0
    interval_s: float = 600.0
    pause: float = 0.02


class Pace:
    """Counts, and tells when the next collection is due; `now_s` is seconds of one clock that never goes back."""

    def __init__(self, thresholds: Thresholds, now_s: float) -> None:
        self._thresholds = thresholds
        self._mutations = self._deletions = 0
        self._rest_until_s = now_s + STARTUP_S
        self._timer_from_s = now_s
        self._spent_s = 0.0
        self._collections = 0

    def changed(self, mutations: int, deletions: int) -> None:
        """Count changes, of which some are deletions."""
        self._mutations += mutations
        self._deletions += deletions

    def collected(self, began_s: float, now_s: float) -> None:
        """Begin to count anew after a collection, and rest so long that collections stay a small part of all time."""
        self._mutations = self._deletions = 0
        self._spent_s += max(0.0, now_s - began_s)
        self._collections += 1
        average_s = self._spent_s / self._collections
        pause = self._thresholds.pause
        self._rest_until_s = now_s + max(LEAST_PAUSE_S, average_s / pause - average_s if pause else 0.0)
        self._timer_from_s = now_s

    def failed(self, now_s: float) -> None:
        """Rest after a collection that came to nothing; what was counted still counts."""
        self._rest_until_s = max(self._rest_until_s, now_s + LEAST_PAUSE_S)
        self._timer_from_s = now_s

    def due_s(self, now_s: float) -> float | None:
        """Return in how many seconds the next collection is due, 0 for now; None while nothing makes one due."""
        limits = self._thresholds
        due: list[float] = []
        if limits.deletions and self._deletions >= limits.deletions:
            due.append(now_s)
        if (limits.mutations and self._mutations >= limits.mutations) or (not limits.deletions and self._deletions):
            due.append(self._rest_until_s)
        if limits.interval_s:
            due.append(max(self._timer_from_s + limits.interval_s, self._rest_until_s))
        return max(0.0, min(due) - now_s) if due else None
