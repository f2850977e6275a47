"""Spans on their way to an OTLP collector, by the OpenTelemetry SDK: batches, retries, protobuf over HTTP."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hythe import __version__
from hythe.telemetry.spans import LiveSpan

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SCOPE = InstrumentationScope("hythe", __version__)


class Collector:
    """Sends ended spans to ``<endpoint>/v1/traces``; what it has no room for it drops, and it never blocks."""

    def __init__(self, endpoint: str, service: str, host: str) -> None:
        self._resource = Resource.create(
            {"service.name": f"hythe-{service}", "service.version": __version__, "host.name": host}
        )
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))

    def take(self, span: LiveSpan) -> None:
        """Take a span that has ended."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span, span.span_id),
                parent=_context(span, span.parent_id) if span.parent_id else None,
                resource=self._resource,
                attributes=span.attributes,
                events=[Event(name, attributes, at_ns) for name, at_ns, attributes in span.events],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.status) if span.failed else Status(),
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self) -> None:
        """Send what is left; blocks until the collector has it or has not answered for long."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(span: LiveSpan, span_id: str) -> SpanContext:
    state = TraceState.from_header([span.state]) if span.state else None
    return SpanContext(int(span.trace_id, 16), int(span_id, 16), False, TraceFlags(TraceFlags.SAMPLED), state)
