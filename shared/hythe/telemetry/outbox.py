"""Ended spans on their way to the span stream: collected by trace, bounded, never in anybody's way (ARCHITECTURE §8)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hythe import subjects, tracing
from hythe.errors import DeadlineExceeded, HytheError, Unavailable
from hythe.telemetry.spans import LiveSpan

MAX_BUFFERED_SPANS = 20_000
MAX_SPANS_A_MESSAGE = 500
MAX_MESSAGE_BYTES = 1 << 20

Publish = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Batch:
    namespace: str
    trace_id: str
    spans: list[LiveSpan]
    still_to_come: int


class SpanOutbox:
    """Collects ended spans and publishes them by trace; thread-safe, bounded.

    Attributes:
        dropped: spans that found no room, or that cannot be sent.
        wake: called, by whichever thread ended the span, when there is something to publish after there was nothing.
    """

    def __init__(self, service: str, host: str) -> None:
        self._service = service
        self._host = host
        self._lock = threading.Lock()
        self._ended: dict[tuple[str, str], list[LiveSpan]] = {}
        self._open: dict[str, int] = {}
        self._namespaces: dict[str, str] = {}
        self._buffered = 0
        self.dropped = 0
        self.wake: Callable[[], object] = lambda: None

    def begun(self, span: LiveSpan) -> None:
        """Count a span as open; its trace belongs to the namespace of the work in progress."""
        trace_id = span.trace_id
        with self._lock:
            self._open[trace_id] = self._open.get(trace_id, 0) + 1
            self._namespaces.setdefault(trace_id, tracing.namespace.get())

    def ended(self, span: LiveSpan) -> None:
        """Keep a span to be published, or drop it when there is no room."""
        trace_id = span.trace_id
        with self._lock:
            left = self._open.get(trace_id, 1) - 1
            namespace = self._namespaces.get(trace_id, "")
            if left > 0:
                self._open[trace_id] = left
            else:
                self._open.pop(trace_id, None)
                self._namespaces.pop(trace_id, None)
            if self._buffered >= MAX_BUFFERED_SPANS:
                self.dropped += 1
                return
            first = not self._buffered
            self._buffered += 1
            self._ended.setdefault((namespace, trace_id), []).append(span)
        if first:
            self.wake()

    async def flush(self, publish: Publish) -> None:
        """Publish what has ended, in messages of at most 1 MiB; what cannot be published now is kept for the next time."""
        most = MAX_SPANS_A_MESSAGE
        while (batch := self._take(most)) is not None:
            data = self._encode(batch)
            if len(data) > MAX_MESSAGE_BYTES and len(batch.spans) > 1:
                most = len(batch.spans) // 2
                self._put_back(batch)
                continue
            most = MAX_SPANS_A_MESSAGE
            try:
                await publish(subjects.span(batch.namespace, batch.trace_id), data)
            except (Unavailable, DeadlineExceeded):
                self._put_back(batch)
                return
            except HytheError:  # too large, or not allowed: it would never go, and hold up all others
                self.dropped += len(batch.spans)
            except BaseException:
                self._put_back(batch)
                raise
            await asyncio.sleep(0)  # a long queue must not hold up the work that spans tell of

    @property
    def empty(self) -> bool:
        """Tell whether nothing waits to be published."""
        return not self._ended

    def _take(self, most: int) -> _Batch | None:
        with self._lock:
            if not self._ended:
                return None
            key = next(iter(self._ended))
            waiting = self._ended[key]
            spans, left = waiting[:most], waiting[most:]
            if left:
                self._ended[key] = left
            else:
                del self._ended[key]
            self._buffered -= len(spans)
            return _Batch(*key, spans, self._open.get(key[1], 0) + len(left))

    def _put_back(self, batch: _Batch) -> None:
        with self._lock:
            key = (batch.namespace, batch.trace_id)
            self._ended = {key: batch.spans + self._ended.pop(key, []), **self._ended}
            self._buffered += len(batch.spans)

    def _encode(self, batch: _Batch) -> bytes:
        message = {
            "service": self._service,
            "host": self._host,
            "pid": os.getpid(),
            "open": batch.still_to_come,
            "dropped": self.dropped,
            "spans": [span.to_json() for span in batch.spans],
        }
        return json.dumps(message, separators=(",", ":")).encode()
