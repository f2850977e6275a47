"""Times as people give them on the command line, for `--since`, `--until`, `--at` and filters alike."""

from __future__ import annotations

import re

from hythe.cli import output
from hythe.errors import InvalidArgument

LATEST_S = 253_402_300_799  # the last second of the year 9999, which RFC 3339 ends with
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_SPAN_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_s(text: str, now_s: float, what: str = "the time") -> float:
    """Return the time that `text` names, in seconds since 1970; negative for one before.

    Args:
        text: a span back from now (``10m``, ``1h30m``, ``7d``), RFC 3339, a date, or seconds since 1970.
        what: what the message calls it, such as the flag that gave it.

    Raises:
        InvalidArgument: it is none of these, or later than the year 9999.
    """
    found = _read(text, now_s)
    if found is None or not found <= LATEST_S:
        raise InvalidArgument(f"read {what} {text!r}: expected e.g. 10m, 24h, 2026-11-23 or 2026-11-23T20:15:00Z")
    return found


def span_s(text: str) -> float | None:
    """Return a length of time such as ``10m``, ``1h30m`` or ``7d`` in seconds; None if it is none."""
    if not _SPAN.fullmatch(text):
        return None
    return sum(float(count) * _UNITS_S[unit] for count, unit in _SPAN_PART.findall(text))


def _read(text: str, now_s: float) -> float | None:
    back_s = span_s(text)
    if back_s is not None:
        return now_s - back_s
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    for candidate in (text, f"{text}Z", f"{text}T00:00:00Z"):
        at = output.epoch_s(candidate)
        if at is not None:
            return at
    return None


def rfc3339_us(epoch: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC with microseconds; 1970 for any time before."""
    import time

    micros = round(max(0.0, epoch) * 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(micros // 1_000_000))}.{micros % 1_000_000:06}Z"
