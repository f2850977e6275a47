"""A trace as a tree: built from the span messages of its processes, with what is missing, and what the time went into.

A message is what `hythe.telemetry` and `hythe.client.root_span` publish. Messages come from many processes and may be
late, repeated or strange: what can't be read is left out and said. Nothing but the standard library is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hythe import subjects
from hythe.client.critical_path import mark_critical_path
from hythe.client.skew import shift_hosts

COMMAND = "cli"
_REQUESTS = (f"{subjects.PREFIX}.rpc.", f"{subjects.PREFIX}.host.")


@dataclass(frozen=True, slots=True)
class Process:
    """One process that took part in a trace."""

    service: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.service} on {self.host} (pid {self.pid})" if self.host else f"{self.service} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something noted inside a span; `time_ns` is on the same clock as the span's start."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Span:
    """One span; times in nanoseconds since 1970, moved by `shift_ns` where its host's clock was found to differ.

    Attributes:
        critical_ns: how much of the root's duration was spent in this span itself, on the critical path.
        critical: the span is on the critical path, though perhaps with no time of its own.
    """

    process: Process
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    failed: bool = False
    status_message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    children: list[Span] = field(default_factory=list, repr=False)
    shift_ns: int = 0
    critical: bool = False
    critical_ns: int = 0

    @property
    def duration_ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns

    @property
    def is_request(self) -> bool:
        """Tell whether this is the asking side of a request to a service: one round trip."""
        return self.kind == "client" and str(self.attributes.get("messaging.destination.name", "")).startswith(
            _REQUESTS
        )

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Span]]:
        """Yield (depth, span) of this span and all below it, each parent before its children, by start."""
        waiting = [(depth, self)]
        while waiting:
            level, span = waiting.pop()
            yield level, span
            waiting += [(level + 1, child) for child in reversed(span.children)]


@dataclass(slots=True)
class Trace:
    """All that is known of one trace.

    Attributes:
        roots: spans without a parent in the trace, by start; one a command.
        orphans: spans whose parent is missing, by start, with what is below them.
        problems: why the trace is not complete, one sentence each.
        dropped: spans that a process had no room for since it started, where there are any.
    """

    trace_id: str
    roots: list[Span]
    orphans: list[Span]
    problems: list[str]
    dropped: dict[Process, int]

    @property
    def complete(self) -> bool:
        """Tell whether nothing more is to come and nothing is missing."""
        return not self.problems

    @property
    def root(self) -> Span | None:
        """The command's own span: the first root; None while it has not arrived."""
        return self.roots[0] if self.roots else None

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Yield (depth, span) of the whole trace, orphans last."""
        for top in (*self.roots, *self.orphans):
            yield from top.walk()

    @property
    def start_ns(self) -> int:
        """Start of the earliest span."""
        return min((span.start_ns for _, span in self.spans()), default=0)

    @property
    def end_ns(self) -> int:
        """End of the last span; after the root's, where something went on after the answer."""
        return max((span.end_ns for _, span in self.spans()), default=0)

    @property
    def processes(self) -> set[Process]:
        """The processes that took part."""
        return {span.process for _, span in self.spans()}

    @property
    def round_trips(self) -> int:
        """Number of requests that were made over the bus."""
        return sum(span.is_request for _, span in self.spans())

    @property
    def fsyncs(self) -> int:
        """Number of fsyncs that something waited for."""
        found = (span.attributes.get("hythe.fsyncs", 0) for _, span in self.spans())
        return sum(count for count in found if isinstance(count, int))


def build_trace(messages: Sequence[Mapping[str, Any]]) -> Trace:
    """Return the trace that `messages` tell of, in the order in which they were stored.

    Spans of any other trace than the first message's are left out. Hosts are shifted and the critical path is marked.
    """
    trace_id = ""
    spans: dict[str, Span] = {}
    open_spans: dict[Process, int] = {}
    dropped: dict[Process, int] = {}
    strange = 0
    for message in messages:
        process = Process(_text(message, "service"), _text(message, "host"), _number(message, "pid"))
        open_spans[process] = _number(message, "open")
        if _number(message, "dropped"):
            dropped[process] = _number(message, "dropped")
        for raw in _list(message, "spans"):
            span = _span(process, raw)
            if span is None:
                strange += 1
                continue
            trace_id = trace_id or _text(raw, "trace_id")
            if _text(raw, "trace_id") == trace_id:
                spans[span.span_id] = span
    roots, orphans = _tree(spans)
    shift_hosts((*roots, *orphans))
    trace = Trace(trace_id, roots, orphans, _problems(spans.values(), roots, orphans, open_spans, strange), dropped)
    if trace.root is not None:
        mark_critical_path(trace.root)
    return trace


def to_json(trace: Trace) -> dict[str, Any]:
    """Return the trace as plain data for ``--format json``; spans in tree order, offsets from the trace's start."""
    return {
        "trace_id": trace.trace_id,
        "complete": trace.complete,
        "problems": trace.problems,
        "start_ns": trace.start_ns,
        "duration_ns": trace.root.duration_ns if trace.root else trace.end_ns - trace.start_ns,
        "processes": len(trace.processes),
        "round_trips": trace.round_trips,
        "fsyncs": trace.fsyncs,
        "spans": [_span_to_json(span, depth, trace.start_ns) for depth, span in trace.spans()],
    }


def _span_to_json(span: Span, depth: int, start_ns: int) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "depth": depth,
        "name": span.name,
        "kind": span.kind,
        "service": span.process.service,
        "host": span.process.host,
        "pid": span.process.pid,
        "offset_ns": span.start_ns - start_ns,
        "duration_ns": span.duration_ns,
        "shift_ns": span.shift_ns,
        "critical": span.critical,
        "critical_ns": span.critical_ns,
        "status": "error" if span.failed else "ok",
        "status_message": span.status_message,
        "attributes": dict(span.attributes),
        "events": [
            {"name": event.name, "offset_ns": event.time_ns - start_ns, "attributes": dict(event.attributes)}
            for event in span.events
        ],
    }


def _tree(spans: Mapping[str, Span]) -> tuple[list[Span], list[Span]]:
    """Hang each span below its parent; return the roots and the spans whose parent is missing."""
    roots: list[Span] = []
    orphans: list[Span] = []
    for span in sorted(spans.values(), key=lambda span: (span.start_ns, span.span_id)):
        parent = spans.get(span.parent_span_id)
        if parent is not None and not _is_above(span, parent, spans):
            parent.children.append(span)
        elif not span.parent_span_id or span.process.service == COMMAND:
            roots.append(span)  # a command's parent may be its caller's span (TRACEPARENT), which nobody stores
        else:
            orphans.append(span)
    return roots, orphans


def _is_above(span: Span, other: Span | None, spans: Mapping[str, Span]) -> bool:
    """Tell whether `span` is `other` or above it, or whether `other` lies in a ring: such parents are not believed."""
    seen: set[str] = set()
    while other is not None and other.span_id not in seen:
        if other is span:
            return True
        seen.add(other.span_id)
        other = spans.get(other.parent_span_id)
    return other is not None


def _problems(
    spans: Iterable[Span], roots: list[Span], orphans: list[Span], open_spans: Mapping[Process, int], strange: int
) -> list[str]:
    found = []
    if not roots:
        found.append("the command's own span has not arrived")
    for process, count in open_spans.items():
        if count:
            found.append(f"{count} {_spans(count)} of {process} had not ended")
    for span in orphans:
        found.append(f"parent {span.parent_span_id} of {span.name} ({span.process}) is missing")
    for span in spans:
        if span.is_request and not span.failed and not any(child.kind == "server" for child in span.children):
            found.append(f"what answered {span.name}, asked by {span.process}, has not arrived")
    if strange:
        found.append(f"{strange} {_spans(strange)} could not be read")
    return found


def _spans(count: int) -> str:
    return "span" if count == 1 else "spans"


def _span(process: Process, raw: object) -> Span | None:
    if not isinstance(raw, Mapping):
        return None
    span_id, start_ns, end_ns = _text(raw, "span_id"), _number(raw, "start_ns"), _number(raw, "end_ns")
    if not span_id or not _text(raw, "trace_id") or not 0 < start_ns <= end_ns < 1 << 63:
        return None
    return Span(
        process=process,
        span_id=span_id,
        parent_span_id=_text(raw, "parent_span_id"),
        name=_text(raw, "name"),
        kind=_text(raw, "kind"),
        start_ns=start_ns,
        end_ns=end_ns,
        failed=_text(raw, "status") == "error",
        status_message=_text(raw, "status_message"),
        attributes=_mapping(raw, "attributes"),
        events=[
            SpanEvent(_text(event, "name"), _number(event, "time_ns"), _mapping(event, "attributes"))
            for event in _list(raw, "events")
            if isinstance(event, Mapping)
        ],
    )


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) else 0


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    return value if isinstance(value, list) else []


def _mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}
