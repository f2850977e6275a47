"""The backend of `hythe.tracing`: spans go to a JetStream stream, and to an OTLP collector where an endpoint is set.

One message per process and trace each 100 ms, off the critical path (ARCHITECTURE §8). Each message says how many spans
of its trace are still open in the process, so that a viewer knows whether more will come. Nothing here blocks or fails
an operation: what does not fit the bounded buffer is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hythe import tracing
from hythe.telemetry.outbox import Publish, SpanOutbox
from hythe.telemetry.spans import LiveSpan, current
from hythe.tracing import Kind, Value

if TYPE_CHECKING:
    from hythe.telemetry.collector import Collector

log = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.1
SHUTDOWN_WITHIN_S = 2.0


class Telemetry:
    """The tracing of one process: installs itself as the backend of `hythe.tracing`."""

    def __init__(self, service: str, host: str, otlp_endpoint: str = "") -> None:
        self.outbox = SpanOutbox(service, host)
        self._collector: Collector | None = None
        if otlp_endpoint:
            from hythe.telemetry.collector import Collector  # the SDK takes 90 ms and 10 MiB, and is rarely wanted

            self._collector = Collector(otlp_endpoint, service, host)
        self._task: asyncio.Task[None] | None = None
        self._publish: Publish | None = None
        tracing.install(self)

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> LiveSpan:
        """Run a block as a span; see `hythe.tracing.Backend`."""
        return LiveSpan(name, kind, attributes, parent, self.outbox.begun, self._ended)

    def _ended(self, span: LiveSpan) -> None:
        self.outbox.ended(span)
        if self._collector is not None:
            self._collector.take(span)

    def inject(self, headers: dict[str, str]) -> None:
        """Add the context of the span in progress to `headers`."""
        span = current.get()
        if span is not None:
            span.inject(headers)

    def trace_id(self) -> str:
        """Return the id of the trace in progress as 32 hex digits, or an empty string."""
        span = current.get()
        return span.trace_id if span is not None else ""

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
        if self._collector is not None:
            await self._close(self._collector)

    async def _close(self, collector: Collector) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            collector.close()
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=shut_down, name="telemetry-shutdown", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), SHUTDOWN_WITHIN_S)
        except TimeoutError:
            log.warning("spans were left that the collector did not take in time")
