"""Prometheus figures of one process, served on loopback under ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from hythe import __version__

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """The registry of one process with the figures that every process has.

    Attributes:
        port: TCP port on 127.0.0.1; 0 before `serve`.
    """

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Gauge(
            "hythe_build_info", "Always 1; the labels say what runs.", ["service", "version"], registry=self.registry
        ).labels(service, __version__).set(1)
        self.served = Histogram(
            "hythe_bus_request_seconds",
            "Requests answered, by subject kind (service.noun.verb) and result code.",
            ["kind", "code"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.called = Histogram(
            "hythe_bus_call_seconds",
            "Requests made, by subject kind (service.noun.verb) and result code.",
            ["kind", "code"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.refused = Counter(
            "hythe_bus_refused_total",
            "Messages dropped by the bus layer, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.in_flight = Gauge("hythe_bus_requests_in_flight", "Requests being worked on.", registry=self.registry)
        self.connected = Gauge("hythe_bus_connected", "1 while connected to the bus.", registry=self.registry)
        self.reconnects = Counter("hythe_bus_reconnects_total", "Connections made anew.", registry=self.registry)
        self.bus_errors = Counter(
            "hythe_bus_errors_total", "Errors of the bus client, by kind.", ["kind"], registry=self.registry
        )
        self.spans_dropped = Gauge("hythe_spans_dropped", "Spans that found no room.", registry=self.registry)
        self.port = 0

    def serve(self) -> None:
        """Serve ``/metrics`` on a free port of 127.0.0.1 in a thread."""
        server, _ = start_http_server(0, "127.0.0.1", self.registry)
        self.port = server.server_port
