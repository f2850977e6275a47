"""The OpenTelemetry backend of `hythe.tracing`: spans go to a JetStream stream, and to OTLP where an endpoint is set.

One message per process and trace each 100 ms, off the critical path (ARCHITECTURE §8). Each message says how many spans
of its trace are still open in the process, so that a viewer knows whether more will come. Nothing here blocks or fails
an operation: what does not fit the bounded buffer is dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hythe import __version__, subjects, tracing
from hythe.errors import HytheError, NotFound
from hythe.tracing import Kind, Span, Value

FLUSH_INTERVAL_S = 0.1
MAX_BUFFERED_SPANS = 20_000
MAX_STATUS_CHARACTERS = 500

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}

Publish = Callable[[str, bytes], Awaitable[None]]


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, key: str, value: Value) -> None:
        self._span.set_attribute(key, value)

    def event(self, name: str, **attributes: Value) -> None:
        self._span.add_event(name, attributes)

    def fail(self, message: str) -> None:
        self._span.set_status(StatusCode.ERROR, message)


class SpanOutbox(SpanProcessor):
    """Collects ended spans and publishes them by trace; thread-safe, bounded.

    Attributes:
        dropped: spans that found no room.
        wake: called, by whichever thread ended the span, when there is something to publish after there was nothing.
    """

    def __init__(self, service: str, host: str) -> None:
        self._service = service
        self._host = host
        self._lock = threading.Lock()
        self._ended: dict[tuple[str, str], list[ReadableSpan]] = {}
        self._open: dict[str, int] = {}
        self._namespaces: dict[str, str] = {}
        self._buffered = 0
        self.dropped = 0
        self.wake: Callable[[], object] = lambda: None

    def on_start(self, span: SdkSpan, parent_context: otel_context.Context | None = None) -> None:
        trace_id = format(span.get_span_context().trace_id, "032x")
        with self._lock:
            self._open[trace_id] = self._open.get(trace_id, 0) + 1
            self._namespaces.setdefault(trace_id, tracing.namespace.get())

    def on_end(self, span: ReadableSpan) -> None:
        trace_id = format(_context(span).trace_id, "032x")
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
        """Publish what has ended; what cannot be published now is kept for the next time."""
        with self._lock:
            batches, self._ended = self._ended, {}
            self._buffered = 0
            open_now = {trace_id: self._open.get(trace_id, 0) for _, trace_id in batches}
        for (namespace, trace_id), spans in batches.items():
            try:
                await publish(subjects.span(namespace, trace_id), self._encode(spans, open_now[trace_id]))
            except HytheError:
                with self._lock:
                    self._ended.setdefault((namespace, trace_id), []).extend(spans)
                    self._buffered += len(spans)

    @property
    def empty(self) -> bool:
        """Tell whether nothing waits to be published."""
        return not self._ended

    def _encode(self, spans: list[ReadableSpan], open_now: int) -> bytes:
        message = {
            "service": self._service,
            "host": self._host,
            "pid": os.getpid(),
            "open": open_now,
            "dropped": self.dropped,
            "spans": [_span_to_json(span) for span in spans],
        }
        return json.dumps(message, separators=(",", ":")).encode()


def _context(span: ReadableSpan) -> trace.SpanContext:
    context = span.get_span_context()
    assert context is not None, "a span that ended has a context"
    return context


def _span_to_json(span: ReadableSpan) -> dict[str, object]:
    context = _context(span)
    return {
        "trace_id": format(context.trace_id, "032x"),
        "span_id": format(context.span_id, "016x"),
        "parent_span_id": format(span.parent.span_id, "016x") if span.parent else "",
        "name": span.name,
        "kind": span.kind.name.lower(),
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": "error" if span.status.status_code is StatusCode.ERROR else "ok",
        "status_message": span.status.description or "",
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": e.name, "time_ns": e.timestamp, "attributes": dict(e.attributes or {})} for e in span.events
        ],
    }


class Telemetry:
    """The tracing of one process: installs itself as the backend of `hythe.tracing`."""

    def __init__(self, service: str, host: str, otlp_endpoint: str = "") -> None:
        resource = Resource.create(
            {"service.name": f"hythe-{service}", "service.version": __version__, "host.name": host}
        )
        self.outbox = SpanOutbox(service, host)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self.outbox)
        if otlp_endpoint:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # 90 ms, rarely wanted
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces")
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("hythe", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._task: asyncio.Task[None] | None = None
        self._publish: Publish | None = None
        tracing.install(self)

    @contextmanager
    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> Iterator[Span]:
        """Run a block as a span; see `hythe.tracing.Backend`."""
        context = self._propagator.extract(parent, otel_context.Context()) if parent is not None else None
        with self._tracer.start_as_current_span(
            name, context, _KINDS[kind], attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield _OtelSpan(span)
            except asyncio.CancelledError:
                span.set_status(StatusCode.ERROR, "cancelled")
                raise
            except NotFound:
                span.set_attribute(
                    "hythe.code", NotFound.code
                )  # an answer, not a fault: who asked decides what it means
                raise
            except BaseException as error:
                span.set_status(
                    StatusCode.ERROR,
                    (error.whole if isinstance(error, HytheError) else str(error))[:MAX_STATUS_CHARACTERS],
                )
                raise

    def inject(self, headers: dict[str, str]) -> None:
        """Add the context of the span in progress to `headers`."""
        self._propagator.inject(headers)

    def trace_id(self) -> str:
        """Return the id of the trace in progress as 32 hex digits, or an empty string."""
        context = trace.get_current_span().get_span_context()
        return format(context.trace_id, "032x") if context.is_valid else ""

    def start(self, publish: Publish) -> None:
        """Begin to publish ended spans with `publish`, at the latest 100 ms after their end; idle while there are none."""
        self._publish = publish
        loop, waiting = asyncio.get_running_loop(), asyncio.Event()
        self.outbox.wake = lambda: loop.call_soon_threadsafe(waiting.set)
        waiting.set()
        self._task = loop.create_task(self._flush_for_ever(waiting), name="span-flush")

    async def _flush_for_ever(self, waiting: asyncio.Event) -> None:
        assert self._publish is not None
        while True:
            await waiting.wait()
            await asyncio.sleep(FLUSH_INTERVAL_S)
            waiting.clear()
            await self.outbox.flush(self._publish)
            if not self.outbox.empty:
                waiting.set()  # the bus was away: try again

    async def stop(self) -> None:
        """Publish what is left and end; exporters get their own time limit."""
        if self._task is not None:
            self.outbox.wake = lambda: None
            self._task.cancel()
        if self._publish is not None and not self.outbox.empty:
            await self.outbox.flush(self._publish)
        await asyncio.to_thread(self._provider.shutdown)
