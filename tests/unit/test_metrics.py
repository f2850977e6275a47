"""The figures that every process serves."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hythe import __version__
from hythe.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    """Figures that are served."""
    made = Metrics("runtime")
    made.serve()
    return made


def test_figures_are_served_as_prometheus_reads_them(metrics: Metrics) -> None:
    """``/metrics`` on the port of the process gives its own figures and those of the bus, by kind and code."""
    metrics.served.labels("runtime.container.run", "ok").observe(0.02)
    metrics.called.labels("metadata.container.begin", "Unavailable").observe(0.001)
    metrics.refused.labels("too-many").inc()
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["hythe_build_info", ("service", "runtime"), ("version", __version__)] == 1
    run = (("code", "ok"), ("kind", "runtime.container.run"))
    assert samples["hythe_bus_request_seconds_count", *run] == 1
    assert samples["hythe_bus_request_seconds_bucket", *run[:1], run[1], ("le", "0.025")] == 1
    assert samples["hythe_bus_request_seconds_bucket", *run[:1], run[1], ("le", "0.01")] == 0
    begin = (("code", "Unavailable"), ("kind", "metadata.container.begin"))
    assert samples["hythe_bus_call_seconds_count", *begin] == 1
    assert samples["hythe_bus_refused_total", ("reason", "too-many")] == 1
    assert samples["process_resident_memory_bytes",] > 0


def test_figures_are_served_on_loopback_alone(metrics: Metrics) -> None:
    """No other machine reads them."""
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if int(line.split()[1].rpartition(":")[2], 16) == metrics.port and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{metrics.port:04X}"]


def test_two_processes_figures_do_not_meet() -> None:
    """Each `Metrics` has a registry of its own."""
    one, other = Metrics("a"), Metrics("b")
    one.reconnects.inc()
    assert other.registry.get_sample_value("hythe_bus_reconnects_total") == 0


def test_silent_connections_cost_no_threads_and_hold_nobody_up_for_long(metrics: Metrics) -> None:
    """Connections that never say anything are cut after a second each, and make no threads."""
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", metrics.port)) for _ in range(3)]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10) as answer:
            assert answer.status == 200
        assert threading.active_count() <= before
    finally:
        for connection in silent:
            connection.close()
