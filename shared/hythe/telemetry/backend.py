"""The OpenTelemetry backend of `hythe.tracing`: spans go to a JetStream stream, and to OTLP where an endpoint is set.

One message per process and trace each 100 ms, off the critical path (ARCHITECTURE §8). Each message says how many spans
of its trace are still open in the process, so that a viewer knows whether more will come. Nothing here blocks or fails
an operation: what does not fit the bounded buffer is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hythe import __version__, tracing
from hythe.errors import HytheError, NotFound
from hythe.telemetry.outbox import Publish, SpanOutbox
from hythe.tracing import Kind, Span, Value

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.1
SHUTDOWN_WITHIN_S = 2.0
MAX_ATTRIBUTE_CHARACTERS = 4096
MAX_STATUS_CHARACTERS = 500

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, key: str, value: Value) -> None:
        self._span.set_attribute(key, value)

    def event(self, name: str, **attributes: Value) -> None:
        self._span.add_event(name, attributes)

    def fail(self, message: str) -> None:
        self._span.set_status(StatusCode.ERROR, message)


class Telemetry:
    """The tracing of one process: installs itself as the backend of `hythe.tracing`."""

    def __init__(self, service: str, host: str, otlp_endpoint: str = "") -> None:
        resource = Resource.create(
            {"service.name": f"hythe-{service}", "service.version": __version__, "host.name": host}
        )
        self.outbox = SpanOutbox(service, host)
        self._provider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=MAX_ATTRIBUTE_CHARACTERS),
        )
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
            try:
                await self.outbox.flush(self._publish)
            except Exception:  # the periodic loop: tracing must not end with one bad batch
                log.exception("spans could not be published")
            if not self.outbox.empty:
                waiting.set()  # the bus was away: try again

    async def stop(self) -> None:
        """Publish what is left and end; a collector that does not answer is given 2 s."""
        if self._task is not None:
            self.outbox.wake = lambda: None
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._publish is not None and not self.outbox.empty:
            await self.outbox.flush(self._publish)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=shut_down, name="telemetry-shutdown", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), SHUTDOWN_WITHIN_S)
        except TimeoutError:
            log.warning("spans were left that the collector did not take in time")
