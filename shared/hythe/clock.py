"""Which clock is used for what: wall time for people, CLOCK_BOOTTIME for deadlines and leases."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path


def now_ns() -> int:
    """Return wall-clock time in nanoseconds since 1970; for records and spans, never for deadlines."""
    return time.time_ns()


def now_rfc3339() -> str:
    """Return wall-clock time as RFC 3339 in UTC with microseconds, e.g. ``2026-11-23T20:15:00.123456Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def boottime_ms() -> int:
    """Return CLOCK_BOOTTIME in milliseconds: counts through suspend, unmoved by clock steps (ARCHITECTURE §3)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id() -> str:
    """Return the kernel's id of this boot; a new one means that no process of the old boot lives."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def rfc3339_of(ns: int) -> str:
    """Return a wall-clock time in nanoseconds since 1970 as `now_rfc3339` writes it; below a microsecond is cut off."""
    seconds, rest_ns = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06}Z"


def ns_of(rfc3339: str) -> int:
    """Return a time that `rfc3339_of` wrote in nanoseconds since 1970.

    Raises:
        ValueError: it is no RFC 3339 time.
    """
    moment = datetime.fromisoformat(rfc3339)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000
