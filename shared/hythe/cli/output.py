"""What commands print on stdout: plain columns for people, JSON Lines for programs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MASKED = "********"
_GAP = "   "
_UNITS = ("B", "kB", "MB", "GB", "TB")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell; control characters in cells are shown, not obeyed."""
    lines = [tuple(header), *(tuple(visible(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print(_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def json_line(value: Mapping[str, object]) -> None:
    """Print one object on a line of its own, at once."""
    import json  # only for commands that were asked for it

    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), flush=True)


def visible(text: str) -> str:
    """Return `text` with control characters escaped, so that a hostile name cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {visible(text)}", file=sys.stderr)


def size(count: int) -> str:
    """Return a number of bytes for people: ``195.2 MB``."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a length of time for people, in its largest fitting unit: ``45 s``, ``12 min``, ``3 h``, ``5 d``."""
    if seconds < 0:
        return "0 s"
    for limit, step, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // step)} {unit}"
    return f"{int(seconds // 86_400)} d"


def since(rfc3339: str, now_s: float) -> str:
    """Return how long ago a time in UTC was, ``3 min ago``; empty for an empty or unreadable one."""
    seconds = epoch_s(rfc3339)
    return f"{duration(now_s - seconds)} ago" if seconds is not None else ""


def epoch_s(rfc3339: str) -> float | None:
    """Return an RFC 3339 time in UTC (``…T…Z``) as seconds since 1970, or None when it is none."""
    from calendar import timegm

    text, _, fraction = rfc3339.removesuffix("Z").partition(".")
    try:
        day, clock = text.split("T")
        year, month, date = (int(part) for part in day.split("-"))
        hour, minute, second = (int(part) for part in clock.split(":"))
        return timegm((year, month, date, hour, minute, second)) + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        return None
