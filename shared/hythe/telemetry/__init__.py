"""Spans of a process: they go to a JetStream stream, and by OpenTelemetry to a collector where an endpoint is set."""

from hythe.telemetry.backend import Telemetry
from hythe.telemetry.outbox import SpanOutbox

__all__ = ["SpanOutbox", "Telemetry"]
