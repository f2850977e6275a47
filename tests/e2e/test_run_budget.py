"""The budget of a warm run: six round trips and five fsyncs, counted from its own trace (ARCHITECTURE §2)."""

from __future__ import annotations

import json
import secrets
from typing import Any

from scripts.lab.stack import Stack

ROUND_TRIPS = [
    "agent.container.run",
    "bundle.bundle.prepare",
    "bundle.bundle.release",
    "metadata.container.begin",
    "metadata.container.finish",
    "runtime.container.run",
]


def _spans_of_a_warm_run(stack: Stack, image: str) -> list[dict[str, Any]]:
    assert stack.hythe("run", "--rm", image, "true").code == 0
    trace_id = secrets.token_hex(16)
    variables = {"TRACEPARENT": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    assert stack.hythe("run", "--rm", image, "true", variables=variables).code == 0
    trace = json.loads(stack.hythe("trace", "show", trace_id, "--format", "json").stdout)
    assert trace["complete"], trace
    spans: list[dict[str, Any]] = trace["spans"]
    return spans


def test_warm_run_makes_six_round_trips(stack: Stack, busybox: str) -> None:
    """A warm `run --rm` asks six times over the bus, and nothing else."""
    spans = _spans_of_a_warm_run(stack, busybox)
    assert sorted(span["name"] for span in spans if span["kind"] == "client") == ROUND_TRIPS


def test_warm_run_waits_for_five_fsyncs(stack: Stack, busybox: str) -> None:
    """A warm `run --rm` syncs five times: begin, intent, snapshot, exit, finish."""
    spans = _spans_of_a_warm_run(stack, busybox)
    synced = {
        span["name"]: span["attributes"]["hythe.fsyncs"] for span in spans if "hythe.fsyncs" in span["attributes"]
    }
    assert sum(span["attributes"].get("hythe.fsyncs", 0) for span in spans) == 5, synced
