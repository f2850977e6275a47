"""Prometheus figures of one process, served on loopback under ``/metrics``."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from hythe import __version__

SILENT_CONNECTION_S = 1.0
SHUTDOWN_POLL_S = 60.0
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
        """Serve ``/metrics`` on a free port of 127.0.0.1 in a thread, one connection after the other."""
        server = _Server(self.registry)
        threading.Thread(target=server.serve_forever, args=(SHUTDOWN_POLL_S,), name="metrics", daemon=True).start()
        self.port = server.server_port


class _Server(HTTPServer):
    """One thread for all: a container on the host's network that opens connections costs no threads and no memory."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT_CONNECTION_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with the figures."""
        if self.path.partition("?")[0] not in ("/metrics", "/"):
            self.send_error(404)
            return
        body = generate_latest(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: who reads figures is no news."""
