"""A run in the foreground while a process behind it is killed: its output and its exit code are the user's all the same."""

from __future__ import annotations

import json
import os
import signal

import pytest

from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

LINES = 60


def _pid(stack: Stack, service: str) -> int:
    rows = [json.loads(line) for line in stack.hythe("status", "--format", "json").stdout.splitlines()]
    return int(next(row["pid"] or 0 for row in rows if row["name"] == service))


@pytest.mark.parametrize("service", ["nats-server", "metadata", "distribution", "bundle", "agent"])
def test_run_outlives_the_death_of_a_process_behind_it(stack: Stack, busybox: str, service: str) -> None:
    """After kill -9 in mid-run every line arrives once and in order, and the command ends with the container's code."""
    script = f"i=0; while [ $i -lt {LINES} ]; do echo $i; sleep 0.1; i=$((i+1)); done; exit 7"
    running = stack.popen("run", "--rm", busybox, "sh", "-c", script)
    assert running.stdout is not None
    first = [running.stdout.readline() for _ in range(10)]
    pid = _pid(stack, service)
    os.kill(pid, signal.SIGKILL)
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 7, errors
    assert ("".join(first) + rest).split() == [str(number) for number in range(LINES)]
    eventually(lambda: _pid(stack, service) not in (0, pid), timeout_s=20, what=f"{service} is back")
    eventually(lambda: stack.hythe("run", "--rm", busybox, "true").code == 0, timeout_s=20, what="a run works again")
