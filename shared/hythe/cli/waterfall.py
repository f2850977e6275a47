"""A trace as a waterfall in the terminal: who did what when, what it waited for, what failed, what is missing.

Every text that comes from the trace is shown without control characters: names and messages may be hostile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from hythe.client.spans import Span, Trace

NARROWEST = 50
NARROWEST_NAME = 18
BAR_WIDTHS = (10, 80)
AT_WIDTH, TOOK_WIDTH = 9, 9
MOST_PROBLEMS = 8
LONGEST_STEPS = 5

_BOLD, _DIM, _RED, _YELLOW, _CYAN = "1", "2", "31", "33", "36"
MARK = "*"
_ON_PATH, _BESIDE = "█", "▒"


def render(trace: Trace, width: int, colour: bool) -> str:
    """Return the waterfall of `trace` as lines of at most `width` columns, each ended by a newline.

    Args:
        width: columns of the terminal; below 60 the bars are left out, below 50 is taken for 50.
        colour: whether to use ANSI colours; pass False where NO_COLOR is set or the output is no terminal.
    """
    page = _Page(trace, width, colour)
    return "".join(f"{line.rstrip()}\n" for line in page.lines())


class _Page:
    def __init__(self, trace: Trace, width: int, colour: bool) -> None:
        self._trace = trace
        self._colour = colour
        self._width = max(width, NARROWEST)
        self._from_ns = trace.start_ns
        self._length_ns = max(1, trace.end_ns - trace.start_ns)
        self._hosts = {process.host for process in trace.processes}
        processes = max((len(self._process(span)) for _, span in trace.spans()), default=0)
        names = max((2 * depth + len(_label(span)) for depth, span in trace.spans()), default=0)
        self._process_width = min(processes, max(8, self._width // 5))
        room = self._width - len("* ") - 1 - self._process_width - AT_WIDTH - TOOK_WIDTH
        self._bar_width = 0 if self._width < 60 else max(BAR_WIDTHS[0], room - max(names, NARROWEST_NAME) - 1)
        self._bar_width = min(self._bar_width, BAR_WIDTHS[1])
        self._name_width = min(max(names, NARROWEST_NAME), room - (self._bar_width + 1 if self._bar_width else 0))

    def lines(self) -> Iterator[str]:
        yield from self._head()
        yield ""
        title = f"  {'span':<{self._name_width}} {'process':<{self._process_width}}{'at ms':>{AT_WIDTH}}{'took ms':>{TOOK_WIDTH}}"
        yield self._paint(_DIM, title)
        for depth, span in self._trace.spans():
            yield from self._span(depth, span)
        yield ""
        yield from self._foot()

    def _head(self) -> Iterator[str]:
        trace = self._trace
        root = trace.root
        took = _duration(root.duration_ns if root else self._length_ns)
        yield self._paint(_BOLD, f"{plain(root.name) if root else '(its command has not arrived)'}  {took}")
        started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self._from_ns // 1_000_000_000))
        yield self._paint(_DIM, f"trace {plain(trace.trace_id)}, {started}")
        counts = [
            (len(trace.processes), "process", "processes"),
            (trace.round_trips, "round trip", "round trips"),
            (trace.fsyncs, "fsync", "fsyncs"),
        ]
        yield self._paint(_DIM, ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts))
        if len(self._hosts) > 1:
            yield self._paint(_DIM, "clocks of hosts are laid over each other at the middle of each request")

    def _span(self, depth: int, span: Span) -> Iterator[str]:
        name = _cut(f"{'  ' * depth}{_label(span)}", self._name_width)
        process = _cut(self._process(span), self._process_width)
        times = f"{_ms(span.start_ns - self._from_ns):>{AT_WIDTH}}{_ms(span.duration_ns):>{TOOK_WIDTH}}"
        style = _RED if span.failed else (_BOLD if span.critical else "")
        yield (
            self._paint(_YELLOW, MARK if span.critical else " ")
            + self._paint(_RED, "!" if span.failed else " ")
            + self._paint(style, f"{name:<{self._name_width}} ")
            + self._paint(_CYAN, f"{process:<{self._process_width}}")
            + times
            + (f" {self._bar(span)}" if self._bar_width else "")
        )
        indent = " " * min(2 * depth + 4, self._width // 2)
        if span.failed and not any(
            child.failed and child.status_message == span.status_message for child in span.children
        ):
            for line in self._wrapped(f"! {plain(span.status_message) or 'failed'}", indent):
                yield self._paint(_RED, line)
        for event in span.events:
            text = f"{plain(event.name)} at {_ms(event.time_ns - self._from_ns)}{_attributes(event.attributes)}"
            yield self._paint(_DIM, f"{indent}· {text}")

    def _wrapped(self, text: str, indent: str) -> list[str]:
        """Return the lines of a message: what went wrong is never cut short."""
        from textwrap import wrap  # only for traces with a failure

        return wrap(text, max(self._width, len(indent) + 20), initial_indent=indent, subsequent_indent=f"{indent}  ")

    def _bar(self, span: Span) -> str:
        begin = (span.start_ns - self._from_ns) * self._bar_width // self._length_ns
        begin = min(max(begin, 0), self._bar_width - 1)
        cells = -(-(span.end_ns - self._from_ns) * self._bar_width // self._length_ns) - begin
        cells = min(max(cells, 1), self._bar_width - begin)
        style = _RED if span.failed else (_YELLOW if span.critical else _DIM)
        return " " * begin + self._paint(style, (_ON_PATH if span.critical else _BESIDE) * cells)

    def _foot(self) -> Iterator[str]:
        trace = self._trace
        if trace.root is not None:
            yield f"{MARK} critical path; most of the time went into:"
            total_ns = max(1, trace.root.duration_ns)
            longest = sorted((span for _, span in trace.root.walk()), key=lambda span: -span.critical_ns)
            for span in [span for span in longest if span.critical_ns][:LONGEST_STEPS]:
                share = f"{100 * span.critical_ns / total_ns:3.0f} %"
                yield _cut(
                    f"{_ms(span.critical_ns):>9} ms {share}  {plain(span.name)} ({self._process(span)})", self._width
                )
        for process, count in trace.dropped.items():
            yield self._paint(_YELLOW, f"{plain(str(process))} had no room for {count} spans since it started")
        if not trace.complete:
            yield self._paint(_YELLOW, "incomplete:")
            for problem in trace.problems[:MOST_PROBLEMS]:
                yield self._paint(_YELLOW, f"  {plain(problem)}")
            if len(trace.problems) > MOST_PROBLEMS:
                yield self._paint(_YELLOW, f"  and {len(trace.problems) - MOST_PROBLEMS} more")

    def _process(self, span: Span) -> str:
        service = plain(span.process.service)
        return f"{service}@{plain(span.process.host)}" if len(self._hosts) > 1 else service

    def _paint(self, style: str, text: str) -> str:
        text = _cut(text, self._width)
        return f"\033[{style}m{text}\033[0m" if self._colour and style and text.strip() else text


def plain(text: str) -> str:
    """Return `text` in one line without control characters, which could drive the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _label(span: Span) -> str:
    return f"{'→ ' if span.kind in ('client', 'producer') else ''}{plain(span.name)}"


def _attributes(attributes: object) -> str:
    if not isinstance(attributes, dict) or not attributes:
        return ""
    return " " + " ".join(f"{plain(str(key))}={plain(str(value))}" for key, value in attributes.items())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f}"


def _duration(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.3f} s" if nanoseconds >= 1_000_000_000 else f"{nanoseconds / 1e6:.1f} ms"
