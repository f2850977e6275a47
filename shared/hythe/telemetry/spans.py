"""A span in progress, with little around it: every request makes several, and each costs whoever waits for the answer."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from hythe.errors import HytheError, NotFound
from hythe.trace_context import format_traceparent, parse_traceparent
from hythe.tracing import Kind, Value

MAX_ATTRIBUTE_CHARACTERS = 4096
MAX_STATUS_CHARACTERS = 500
MAX_ATTRIBUTES = 128
MAX_EVENTS = 128

_random = random.Random()  # ids need to be different, not secret
current: contextvars.ContextVar[LiveSpan | None] = contextvars.ContextVar("hythe_span", default=None)


class LiveSpan:
    """One span, as a block; ended when the block is left, in whatever way.

    Attributes:
        parent_id: 16 hex digits, empty for the root of a trace.
        sampled: whether it is told at all; the context travels on in any case.
        state: the caller's ``tracestate``, passed on as it is.
    """

    __slots__ = (
        *("attributes", "end_ns", "events", "failed", "kind", "name", "parent_id", "sampled", "span_id", "start_ns"),
        *("state", "status", "trace_id", "_begun", "_ended", "_token"),
    )

    trace_id: str
    span_id: str
    parent_id: str
    sampled: bool

    def __init__(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value],
        headers: Mapping[str, str] | None,
        begun: Callable[[LiveSpan], None],
        ended: Callable[[LiveSpan], None],
    ) -> None:
        """Make a span below the one in progress, or where `headers` say; `begun` and `ended` are called if it is sampled."""
        self.name = name
        self.kind = kind
        self.attributes = {key: _cut(value) for key, value in attributes.items()}
        self.events: list[tuple[str, int, dict[str, Value]]] = []
        self.failed = False
        self.status = ""
        self.state = ""
        self._begun = begun
        self._ended = ended
        parent = current.get() if headers is None else None
        if parent is not None:
            self.trace_id, self.parent_id, self.sampled = parent.trace_id, parent.span_id, parent.sampled
            self.state = parent.state
        else:
            found = parse_traceparent(headers.get("traceparent", "")) if headers else None
            if found is not None and headers:
                self.trace_id, self.parent_id, self.sampled = found
                self.state = headers.get("tracestate", "")
            else:
                self.trace_id, self.parent_id, self.sampled = f"{_random.getrandbits(128) or 1:032x}", "", True
        self.span_id = f"{_random.getrandbits(64) or 1:016x}"
        self.start_ns = self.end_ns = 0

    def __enter__(self) -> LiveSpan:
        self._token = current.set(self)
        self.start_ns = time.time_ns()
        if self.sampled:
            self._begun(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._see(error)
        self.end_ns = time.time_ns()
        current.reset(self._token)
        if self.sampled:
            self._ended(self)

    def set(self, key: str, value: Value) -> None:
        """Set one attribute."""
        if len(self.attributes) < MAX_ATTRIBUTES or key in self.attributes:
            self.attributes[key] = _cut(value)

    def event(self, name: str, **attributes: Value) -> None:
        """Note that something happened now."""
        if len(self.events) < MAX_EVENTS:
            self.events.append((name, time.time_ns(), {key: _cut(value) for key, value in attributes.items()}))

    def fail(self, message: str) -> None:
        """Mark the span as failed."""
        self.failed, self.status = True, message

    def inject(self, headers: dict[str, str]) -> None:
        """Add the context that makes this span the parent of what a receiver does."""
        headers["traceparent"] = format_traceparent(self.trace_id, self.span_id, self.sampled)
        if self.state:
            headers["tracestate"] = self.state

    def to_json(self) -> dict[str, Any]:
        """Return the span as the span stream holds it."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_id,
            "name": self.name,
            "kind": self.kind,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "status": "error" if self.failed else "ok",
            "status_message": self.status,
            "attributes": self.attributes,
            "events": [{"name": name, "time_ns": at, "attributes": found} for name, at, found in self.events],
        }

    def _see(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.fail("cancelled")
        elif isinstance(error, NotFound):
            self.set("hythe.code", NotFound.code)  # an answer, not a fault: who asked decides what it means
        else:
            self.fail((error.whole if isinstance(error, HytheError) else str(error))[:MAX_STATUS_CHARACTERS])


def _cut(value: Value) -> Value:
    return value[:MAX_ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
