"""``hythe ps --at TIME`` and ``hythe ps --diff A B``: containers as they were, by the stored events alone."""

from __future__ import annotations

import sys
import time

from hythe import subjects
from hythe.cli import exits, output
from hythe.cli.containers import show_containers
from hythe.cli.moments import moment_s, rfc3339_us
from hythe.client.event_reader import EventReader, StoredEvent, Unreadable
from hythe.client.history import History, changes
from hythe.client.stream_parts import Gap, state_of
from hythe.errors import InvalidArgument, OutOfRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hythe.cli.context import Context
    from hythe.client.history import Change
    from hythe.client.sync_bus import SyncBus

AHEAD_S = 60.0
WAIT_S = 5.0
_MARKS = {"created": "+", "removed": "-", "changed": "~"}


def ps_at(context: Context) -> int:
    """List containers as they were, or what changed between two times.

    Raises:
        OutOfRange: the stored events don't reach back so far.
        InvalidArgument: a time is none, or lies ahead.
    """
    args, now = context.args, time.time()
    if args.at and args.diff:
        raise InvalidArgument(
            "read the options: --at and --diff ask for different things", next_step="give one of them"
        )
    if args.diff:
        before, after = _read(context, [_time("--diff", text, now) for text in args.diff])
        _show_changes(context, changes(before.containers(), after.containers()))
        return exits.OK
    (history,) = _read(context, [_time("--at", args.at, now)])
    rows = history.containers()
    show_containers(context, rows if args.all else [row for row in rows if row["status"] in _LIVE], history.at_s)
    return exits.OK


_LIVE = ("running", "unknown")


def _time(flag: str, text: str, now: float) -> float:
    at_s = moment_s(text, now, flag)
    if at_s > now + AHEAD_S:
        raise InvalidArgument(f"read {flag} {text!r}: it lies ahead")
    return at_s


def _read(context: Context, times: Sequence[float]) -> list[History]:
    """Return the state at each of `times`, in one pass over all events of containers."""
    first, begins = _beginning(context.bus)
    if first > 1 and min(times) < begins:
        raise OutOfRange(
            f"show containers at {rfc3339_us(min(times))}: events begin at {rfc3339_us(begins)}",
            cause="what was before is no longer stored",
            next_step="choose a later time; HYTHE_EVENTS_AGE and HYTHE_EVENTS_BYTES say how long events are kept",
        )
    histories = [History(at_s, begins_s=begins if first > 1 else 0.0) for at_s in times]
    subject = subjects.events_of_noun("container", context.namespace)
    reader = EventReader(context.bus, subject, first=first)
    reader.stream.stop_at_end()
    while not reader.stream.done:
        for item in reader.turn(WAIT_S):
            if isinstance(item, StoredEvent):
                for history in histories:
                    history.take(item.body)
            elif isinstance(item, Gap):
                output.warn(f"gap {item.first}..{item.last}: events were dropped while they were read")
                for history in histories:
                    history.begins_s = time.time()
            elif isinstance(item, Unreadable):
                output.warn(f"message {item.sequence} is no event: {item.cause}")
    reader.stream.close()
    if first > 1:
        output.warn(
            f"events begin at {rfc3339_us(begins)}: containers that were made before may be missing, "
            "and what is not known of the others is marked unknown"
        )
    return histories


def _beginning(bus: SyncBus) -> tuple[int, float]:
    """Return the stream's first sequence, and when that was stored, in seconds since 1970."""
    state = state_of(bus, subjects.EVENT_STREAM)
    return state.first, output.epoch_s(state.first_time) or 0.0


def _show_changes(context: Context, found: Sequence[Change]) -> None:
    for change in found:
        row: dict[str, Any] = change.after or change.before or {}
        if context.as_json:
            output.json_line(
                {
                    "change": change.kind,
                    "id": row["id"],
                    "name": row["name"],
                    "fields": change.fields,
                    "before": change.before,
                    "after": change.after,
                }
            )
        elif context.args.quiet:
            print(row["id"] if context.args.no_trunc else row["id"][:12])
        else:
            print(output.visible(_line(change, row, whole=context.args.no_trunc)))
    if not found and sys.stderr.isatty():
        print(f"nothing changed in namespace {context.namespace}", file=sys.stderr)


def _line(change: Change, row: dict[str, Any], *, whole: bool) -> str:
    words = [_MARKS[change.kind], row["id"] if whole else row["id"][:12], row["name"]]
    if change.before is None or change.after is None:
        words += [row["image"], _status(row), row["host"]]
    else:
        words += [f"{name}: {_text(change.before[name])} → {_text(change.after[name])}" for name in change.fields]
    return "  ".join(word for word in words if word)


def _status(row: dict[str, Any]) -> str:
    return f"exited ({_text(row['exit_code'])})" if row["status"] == "exited" else str(row["status"])


def _text(value: object) -> str:
    return "?" if value is None else str(value)
