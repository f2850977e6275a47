"""The only place that knows OpenTelemetry: spans go to a JetStream stream, and to OTLP where an endpoint is set."""

from hythe.telemetry.backend import Telemetry
from hythe.telemetry.outbox import SpanOutbox

__all__ = ["SpanOutbox", "Telemetry"]
