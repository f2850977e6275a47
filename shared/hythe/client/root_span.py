"""The command's own spans: made from random bytes, sent as one small message at the end (ARCHITECTURE §8).

The message is the same as that of `hythe.telemetry`, which the services use.
"""

from __future__ import annotations

import json
import os
import time

from hythe.trace_context import format_traceparent, parse_traceparent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hythe.errors import HytheError


class CommandSpan:
    """One span of the command: the whole of it, or one request that it makes."""

    def __init__(self, name: str, kind: str, parent_span_id: str, start_ns: int) -> None:
        self.name = name
        self.kind = kind
        self.span_id = os.urandom(8).hex()
        self.parent_span_id = parent_span_id
        self.start_ns = start_ns
        self.end_ns = 0
        self.status_message = ""
        self.failed = False
        self.attributes: dict[str, str | int | float | bool] = {}

    def fail(self, message: str) -> None:
        """Mark the span as failed."""
        self.failed, self.status_message = True, message[:500]

    def end(self, error: HytheError | None = None) -> None:
        """End the span now; an error marks it failed."""
        self.end_ns = time.time_ns()
        if error is not None:
            self.fail(error.whole)

    def to_json(self, trace_id: str) -> dict[str, object]:
        """Return the span as the span stream holds it."""
        return {
            "trace_id": trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
            "name": self.name,
            "kind": self.kind,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "status": "error" if self.failed else "ok",
            "status_message": self.status_message,
            "attributes": self.attributes,
            "events": [],
        }


class CommandTrace:
    """The trace of one command: the caller's, where ``TRACEPARENT`` names one, else a new one."""

    def __init__(self, name: str, environment: Mapping[str, str], start_ns: int, *, sampled: bool = True) -> None:
        parent = parse_traceparent(environment.get("TRACEPARENT", ""))
        self.trace_id = parent[0] if parent else os.urandom(16).hex()
        self.sampled = sampled and (parent is None or parent[2])
        self.tracestate = environment.get("TRACESTATE", "") if parent else ""
        self.root = CommandSpan(name, "internal", parent[1] if parent else "", start_ns)
        self._requests: list[CommandSpan] = []

    def headers(self, span: CommandSpan) -> dict[str, str]:
        """Return the message headers that make `span` the parent of what the receiver does."""
        found = {"traceparent": format_traceparent(self.trace_id, span.span_id, self.sampled)}
        if self.tracestate:
            found["tracestate"] = self.tracestate
        return found

    def begin_request(self, kind: str, subject: str) -> CommandSpan:
        """Start the span of one request ``service.noun.verb``; the caller ends it."""
        span = CommandSpan(kind, "client", self.root.span_id, time.time_ns())
        span.attributes = {"messaging.system": "nats", "messaging.destination.name": subject}
        self._requests.append(span)
        return span

    def message(self, host: str) -> bytes:
        """Return the span message of this command, which ends with the first call."""
        now = self.root.end_ns = self.root.end_ns or time.time_ns()
        for span in self._requests:
            span.end_ns = span.end_ns or now
        message = {
            "service": "cli",
            "host": host,
            "pid": os.getpid(),
            "open": 0,
            "dropped": 0,
            "spans": [span.to_json(self.trace_id) for span in (self.root, *self._requests)],
        }
        return json.dumps(message, separators=(",", ":")).encode()
