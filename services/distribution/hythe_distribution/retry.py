"""When a request is sent once more, and how long is waited before."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TRIES = 4
FIRST_DELAY_S = 0.1
MAX_WAIT_S = 30.0
_FAILURES = frozenset((408, 429))


def worth_repeating(status: int) -> bool:
    """Tell whether an answer may be another one in a moment: 408, 429, 5xx."""
    return status in _FAILURES or status >= 500


def delay_s(attempt: int, chance: float | None = None) -> float:
    """Return the seconds to wait after try `attempt` (0 is the first): 0.1 s, doubled each time, half to all of it.

    Args:
        chance: from 0 to 1; drawn by default, so that those who failed together do not come back together.
    """
    drawn = random.random() if chance is None else chance
    return FIRST_DELAY_S * 2.0**attempt * (0.5 + drawn / 2)


def retry_after_s(header: str, now: datetime | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks to wait, at least 0; None if it says nothing readable.

    Spec: RFC 9110, 10.2.3.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
