"""Which spans the duration of a trace was spent in: the path back from the root's end through what finished last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hythe.client.spans import Span

SLACK_NS = 1_000_000


def mark_critical_path(root: Span) -> None:
    """Set `critical` and `critical_ns` on the spans below `root`; the `critical_ns` of all sum up to the root's duration.

    Going back from a span's end, the child that finished last is what the span waited for; before that child's start,
    the child that had finished last by then; what lies between is the span's own time. A child that goes on after its
    parent was not waited for, unless it answered the parent's request or is later by no more than `SLACK_NS`.
    """
    waiting = [(root, root.start_ns, root.end_ns)]
    while waiting:
        span, start_ns, until_ns = waiting.pop()
        span.critical = True
        cursor = until_ns
        for child in sorted(span.children, key=lambda child: child.end_ns, reverse=True):
            end_ns = child.end_ns
            if end_ns > until_ns and cursor == until_ns and _waited_for(span, child, until_ns):
                end_ns = until_ns
            begun_ns = max(child.start_ns, start_ns)
            if begun_ns >= end_ns or end_ns > cursor:
                continue  # nothing of it lies here, or it finished when something later had begun already
            span.critical_ns += cursor - end_ns
            waiting.append((child, begun_ns, end_ns))
            cursor = begun_ns
        span.critical_ns += cursor - start_ns


def _waited_for(span: Span, child: Span, until_ns: int) -> bool:
    """Tell whether `span`, which ended at `until_ns`, waited for a child that ended later."""
    return (span.kind == "client" and child.kind == "server") or child.end_ns - until_ns <= SLACK_NS
