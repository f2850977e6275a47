"""Lays the clocks of different hosts over each other: an answer lies in the middle of its question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hythe.client.spans import Span


def offset_ns(asked: tuple[int, int], answered: tuple[int, int]) -> int:
    """Return what to add to the answering host's clock to get the asking host's, in nanoseconds.

    The way there is taken to be as long as the way back, so both intervals (start, end) share their midpoint. An
    answer that took longer than its question went on after the reply: then it stays where it is if it began during
    the question, and is moved to the question's start if not.
    """
    if answered[1] - answered[0] <= asked[1] - asked[0]:
        return (asked[0] + asked[1] - answered[0] - answered[1]) // 2
    if asked[0] <= answered[0] <= asked[1]:
        return 0
    return asked[0] - answered[0]


def shift_hosts(tops: Iterable[Span]) -> None:
    """Move all spans below `tops` that are on another host than their parent, with what is below them on that host."""
    waiting = [(top, 0) for top in tops]
    while waiting:
        span, shift = waiting.pop()
        span.start_ns += shift
        span.end_ns += shift
        span.shift_ns = shift
        if shift:
            span.events = [type(e)(e.name, e.time_ns + shift, e.attributes) for e in span.events]
        for child in span.children:
            if child.process.host == span.process.host:
                waiting.append((child, shift))
            else:
                interval = (span.start_ns, span.end_ns)
                waiting.append((child, offset_ns(interval, (child.start_ns, child.end_ns))))
