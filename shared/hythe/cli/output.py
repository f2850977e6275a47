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
    print(json_text(value), flush=True)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return `value` as JSON in UTF-8; what cannot be printed is escaped, so that no string in it steers the terminal."""
    import json  # only for commands that were asked for it

    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else "\\u007f" if c == "\x7f" else json.dumps(c)[1:-1] for c in text
    )


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


def age(rfc3339: str, now_s: float) -> str:
    """Return how long ago a time was in Docker's words, ``3 weeks ago``; ``N/A`` for an empty or unreadable one."""
    at_s = epoch_s(rfc3339)
    if at_s is None:
        return "N/A"
    seconds = max(0.0, now_s - at_s)
    if seconds < 1:
        return "Less than a second ago"
    if seconds < 60:
        return f"{int(seconds)} second{'' if seconds < 2 else 's'} ago"
    if seconds < 3600:
        return "About a minute ago" if seconds < 120 else f"{int(seconds / 60)} minutes ago"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour ago"
    for limit, step, unit in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17_520, 720, "months")):
        if hours < limit:
            return f"{hours // step} {unit} ago"
    return f"{int(seconds / 3600) // 8760} years ago"


def epoch_s(rfc3339: str) -> float | None:
    """Return an RFC 3339 time as seconds since 1970, or None when it is none."""
    head, tail = rfc3339[:19], rfc3339[19:]
    texts = (head[:4], head[5:7], head[8:10], head[11:13], head[14:16], head[17:])
    if len(head) < 19 or f"{head[4]}{head[7]}{head[10]}{head[13]}{head[16]}" != "--T::" or not _digits(*texts):
        return None
    year, month, day, hour, minute, second = map(int, texts)
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    fraction = ""
    if tail.startswith("."):
        zone = tail[1:].lstrip("0123456789")
        fraction, tail = tail[1 : len(tail) - len(zone)], zone
        if not fraction:
            return None
    offset_s = _offset_s(tail)
    if offset_s is None:
        return None
    clock_s = hour * 3600 + minute * 60 + second - offset_s
    return _days(year, month, day) * 86_400 + clock_s + (float(f"0.{fraction}") if fraction else 0.0)


def _offset_s(zone: str) -> int | None:
    if zone == "Z":
        return 0
    if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":" or not _digits(zone[1:3], zone[4:]):
        return None
    return (int(zone[1:3]) * 3600 + int(zone[4:]) * 60) * (-1 if zone[0] == "-" else 1)


def _digits(*texts: str) -> bool:
    return all(text.isascii() and text.isdigit() for text in texts)


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970 to a date; `calendar` knows it too, and costs a listing 3 ms."""
    year -= month <= 2  # years begin in March, so that the day of a leap year is the last one
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - 719_468


def rfc3339(epoch: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC, whole seconds."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
