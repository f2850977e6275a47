"""The trace of a run as a user sees it: complete, one tree, from the command or its caller down to `runc start`."""

from __future__ import annotations

import gzip
import http.server
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually


def _trace(stack: Stack, trace_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stack.hythe("trace", "show", trace_id, "--format", "json").stdout)
    return found


def test_run_has_one_tree_over_five_processes_below_the_callers_span(stack: Stack, busybox: str) -> None:
    """With TRACEPARENT set, the run's trace is the caller's: spans of five processes, none without its parent."""
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    assert stack.hythe("pull", busybox).code == 0
    variables = {"TRACEPARENT": f"00-{trace_id}-{parent}-01"}
    assert stack.hythe("run", "--rm", busybox, "true", variables=variables).code == 0
    trace = _trace(stack, trace_id)
    spans = trace["spans"]
    ids = {span["span_id"] for span in spans}
    assert trace["complete"], trace
    assert {span["service"] for span in spans} >= {"cli", "runtime", "metadata", "agent", "bundle"}
    assert [span["parent_span_id"] for span in spans if span["parent_span_id"] not in ids] == [parent]
    assert "runc start" in {span["name"] for span in spans}


def test_trace_show_last_is_the_run_that_was_last(stack: Stack, busybox: str) -> None:
    """`trace show last` shows the newest command as a waterfall with its processes and the critical path."""
    assert stack.hythe("run", "--rm", busybox, "true").code == 0
    shown = stack.hythe("trace", "show", "last")
    assert shown.code == 0
    assert shown.stdout.startswith("hythe run")
    assert "critical path" in shown.stdout
    for name in ("metadata.container.begin", "bundle.bundle.prepare", "runc create", "runc start"):
        assert name in shown.stdout


def test_run_with_trace_shows_its_own_waterfall(stack: Stack, busybox: str) -> None:
    """`run --trace` prints the container's output on stdout and the waterfall on stderr, with the container's code."""
    done = stack.hythe("run", "--rm", "--trace", busybox, "sh", "-c", "echo out; exit 4")
    assert (done.code, done.stdout) == (4, "out\n")
    assert "runc start" in done.stderr
    assert "incomplete" not in done.stderr


def test_failed_run_names_its_trace_and_the_trace_names_the_failure(stack: Stack, busybox: str) -> None:
    """An error prints a trace id that `trace show` takes, and the waterfall marks what failed."""
    done = stack.hythe("run", "--rm", busybox, "no-such-command")
    short = done.stderr.split("hythe trace show ")[1].split(")")[0]
    shown = stack.hythe("trace", "show", short)
    assert shown.code == 0
    assert "executable file not found" in shown.stdout


def test_trace_id_is_found_in_the_services_logs(stack: Stack, busybox: str) -> None:
    """What the services log about a run, failed or not, carries its trace id."""
    for command in ("true", "no-such-command"):
        trace_id = secrets.token_hex(16)
        stack.hythe("run", "--rm", busybox, command, variables={"TRACEPARENT": f"00-{trace_id}-{'1' * 16}-01"})
        for service in ("runtime", "agent"):
            lines = [json.loads(line) for line in stack.hythe("logs", "--service", service).stdout.splitlines()]
            found = [line["message"] for line in lines if line.get("trace_id") == trace_id]
            assert any(f"{service}.container.run" in message for message in found), found


def test_trace_ls_lists_commands_newest_first(stack: Stack, busybox: str) -> None:
    """`trace ls` lists each command with its duration, the newest first."""
    stack.hythe("ps")
    stack.hythe("images")
    rows = [json.loads(line) for line in stack.hythe("trace", "ls", "--format", "json").stdout.splitlines()]
    assert [row["name"] for row in rows[:2]] == ["hythe images", "hythe ps"]


class _Collector(http.server.ThreadingHTTPServer):
    """An OTLP/HTTP collector that keeps what it gets."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _CollectorHandler)


class _CollectorHandler(http.server.BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        """Keep one export."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        self.server.requests.append((self.headers["Content-Type"], data))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[_Collector]:
    """A collector on a free port."""
    server = _Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_otlp_collector_gets_the_whole_trace(
    make_stack: Callable[..., Stack], collector: _Collector, busybox: str
) -> None:
    """With OTEL_EXPORTER_OTLP_ENDPOINT set, services and command export the same trace to the collector."""
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    stack = make_stack(variables={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"})
    stack.up()
    trace_id = secrets.token_hex(16)
    variables = {"TRACEPARENT": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    assert stack.hythe("run", "--rm", busybox, "true", variables=variables).code == 0

    def got(what: str) -> bool:
        raw = bytes.fromhex(trace_id)
        return any(
            what.encode() in data and (raw in data or trace_id.encode() in data) for _, data in collector.requests
        )

    for name in ("hythe run", "runtime.container.run", "metadata.commit", "bundle.bundle.prepare", "runc start"):
        eventually(lambda name=name: got(name), what=f"the collector has {name}")  # type: ignore[misc]
