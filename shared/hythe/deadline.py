"""How long a request may take, passed down a chain of calls so that the inner one gives up first."""

from __future__ import annotations

import contextvars
import time
from dataclasses import dataclass

DEFAULT_TIMEOUT_S = 1.5
NESTED_MARGIN_S = 0.15
ALIVE_INTERVAL_S = 1.0
SILENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock of this process."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Return the seconds left; never negative."""
        return max(0.0, self.at - time.monotonic())


current: contextvars.ContextVar[Deadline | None] = contextvars.ContextVar("hythe_deadline", default=None)


def nested_timeout_s() -> float:
    """Return how long a call made now may take: the default, or less where the caller's own deadline is nearer."""
    outer = current.get()
    if outer is None:
        return DEFAULT_TIMEOUT_S
    return max(0.05, min(DEFAULT_TIMEOUT_S, outer.remaining_s() - NESTED_MARGIN_S))
