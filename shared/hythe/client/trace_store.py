"""Reading traces from the span stream: which there are, and all messages of one, waiting for those still to come."""

from __future__ import annotations

import json
import time

from hythe import subjects
from hythe.client.jetstream import Consumer, Stored, api, last_message, messages_of
from hythe.client.spans import Trace, build_trace
from hythe.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hythe.client.sync_bus import SyncBus

COMPLETE_WITHIN_S = 2.0
POLL_S = 0.03
LAST = "last"
_HEX = frozenset("0123456789abcdef")
_WHOLE_ID = 32
_WINDOWS_S = (60, 900, 6 * 3600, 0)
_NEXT_STEP = "`hythe trace ls` lists those of the last 24 h"


def newest_roots(bus: SyncBus, namespace: str, most: int) -> list[dict[str, Any]]:
    """Return the root spans of the newest `most` traces of `namespace`, newest first.

    Looks at the last minute first and further back only where that holds too few, so that it need not read a whole day.
    """
    found: dict[str, dict[str, Any]] = {}
    for window_s in _WINDOWS_S:
        since = _rfc3339(time.time() - window_s) if window_s else ""
        with Consumer(bus, subjects.SPAN_STREAM, subjects.root_spans(namespace), since_rfc3339=since) as consumer:
            if consumer.pending < most and window_s:
                continue
            for stored in consumer.read(consumer.pending):
                span = _root_of(stored)
                if span is not None:
                    found[str(span["trace_id"])] = span
        break
    return list(found.values())[::-1][:most]


def _root_of(stored: Stored) -> dict[str, Any] | None:
    message = _parse(stored)
    spans = message.get("spans") if message else None
    if not isinstance(spans, list) or not spans or not isinstance(spans[0], dict):
        return None
    span: dict[str, Any] = {**spans[0], "host": message.get("host", ""), "trace_id": stored.subject.split(".")[4]}
    return span


def _parse(stored: Stored) -> dict[str, Any]:
    try:
        message = json.loads(stored.data)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def find_trace_id(bus: SyncBus, namespace: str, text: str) -> str:
    """Return the whole id that ``last`` or a unique prefix of an id means.

    Raises:
        NotFound: there is no such trace, or none at all.
        InvalidArgument: `text` is no prefix of an id, or of several.
    """
    if text == LAST:
        stored = last_message(bus, subjects.SPAN_STREAM, subjects.root_spans(namespace))
        if stored is None:
            raise NotFound(f"find the last trace: there is none in namespace {namespace}")
        return stored.subject.split(".")[4]
    if not text or not _HEX.issuperset(text) or len(text) > _WHOLE_ID:
        raise InvalidArgument(f"find trace {text!r}: expected `last` or the beginning of an id", next_step=_NEXT_STEP)
    if len(text) == _WHOLE_ID:
        return text
    filtered = {"subjects_filter": f"{subjects.PREFIX}.span.*.*.root"}
    names = api(bus, f"STREAM.INFO.{subjects.SPAN_STREAM}", filtered)["state"].get("subjects") or {}
    ids: list[str] = sorted({trace_id for name in names if (trace_id := name.split(".")[4]).startswith(text)})
    if not ids:
        raise NotFound(f"find trace {text}: there is none", next_step=_NEXT_STEP)
    if len(ids) > 1:
        candidates = ", ".join(ids[:5])
        raise InvalidArgument(f"find trace {text}: several begin so: {candidates}", next_step="give more of its id")
    return ids[0]


def read_trace(bus: SyncBus, trace_id: str, *, wait_s: float = COMPLETE_WITHIN_S) -> Trace:
    """Return the trace with all its spans, waiting up to `wait_s` for those that had started but not ended.

    Raises:
        NotFound: nothing of it is stored.
    """
    deadline = time.monotonic() + wait_s
    messages: dict[int, dict[str, Any]] = {}
    after = dict.fromkeys(_filters(trace_id), 0)
    while True:
        for filtered, sequence in after.items():
            for stored in messages_of(bus, subjects.SPAN_STREAM, filtered, after=sequence):
                messages[stored.sequence] = _parse(stored)
                after[filtered] = stored.sequence
        trace = build_trace([messages[sequence] for sequence in sorted(messages)])
        if (trace.complete and messages) or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    if not messages:
        raise NotFound(f"find trace {trace_id}: nothing of it is stored", next_step=_NEXT_STEP)
    return trace


def _filters(trace_id: str) -> Iterator[str]:
    """Yield what selects the messages of a trace in any namespace; one filter cannot, for old servers take only one."""
    yield f"{subjects.PREFIX}.span.*.{trace_id}"
    yield f"{subjects.PREFIX}.span.*.{trace_id}.root"


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
