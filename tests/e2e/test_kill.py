"""kill -9 of any process while the stack is up is healed, and containers don't notice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

SERVICES = ("nats-server", "metadata", "distribution", "bundle", "runtime", "agent")


def _status(stack: Stack) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in stack.hythe("status", "--format", "json").stdout.splitlines()]
    return {row["name"]: row for row in rows}


def _listed(stack: Stack, name: str) -> dict[str, Any] | None:
    for line in stack.hythe("ps", "-a", "--format", "json").stdout.splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["name"] == name:
            return row
    return None


def _in_status(stack: Stack, name: str, status: str) -> dict[str, Any]:
    row = _listed(stack, name)
    return row if row is not None and row["status"] == status else {}


@pytest.mark.parametrize("service", SERVICES)
def test_killed_service_is_restarted_and_the_next_run_works(stack: Stack, busybox: str, service: str) -> None:
    """After kill -9 of one process `hythe up` starts it again, a running container is untouched, and a run works."""
    name = f"witness-{service}"
    assert stack.hythe("run", "-d", "--name", name, busybox, "sleep", "600").code == 0
    try:
        before = _listed(stack, name)
        assert before is not None
        pid = _status(stack)[service]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: _status(stack)[service]["pid"] not in (pid, None), timeout_s=20, what=f"{service} is back")
        eventually(lambda: stack.hythe("run", "--rm", busybox, "true").code == 0, timeout_s=30, what="a run works")
        after = eventually(lambda: _in_status(stack, name, "running"), what="the container is listed")
        assert after["pid"] == before["pid"]
        assert Path(f"/proc/{before['pid']}").exists()
    finally:
        assert stack.hythe("rm", "-f", name).code == 0


def test_killed_supervisor_is_healed_by_the_next_up(make_stack: Callable[..., Stack], busybox: str) -> None:
    """kill -9 of `hythe up` ends nothing; the next `hythe up` adopts what lives and starts what died."""
    stack = make_stack()
    stack.up()
    assert stack.hythe("run", "-d", "--name", "witness", busybox, "sleep", "600").code == 0
    before = _status(stack)
    os.kill(int(json.loads((stack.state / "up.json").read_text())["pid"]), signal.SIGKILL)
    assert stack.hythe("run", "--rm", busybox, "true").code == 0
    os.kill(before["bundle"]["pid"], signal.SIGKILL)
    stack.up()
    after = _status(stack)
    assert after["metadata"]["pid"] == before["metadata"]["pid"]
    assert after["bundle"]["pid"] != before["bundle"]["pid"]
    assert stack.hythe("run", "--rm", busybox, "true").code == 0
    row = _listed(stack, "witness")
    assert row is not None
    assert row["status"] == "running"


def test_exit_while_the_agent_is_dead_is_reported_once(make_stack: Callable[..., Stack], busybox: str) -> None:
    """A container that ends while no agent lives is reported with its code by the next agent, exactly once."""
    stack = make_stack()
    stack.up()
    done = stack.hythe(
        "run", "-d", "--name", "brief", busybox, "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 9"
    )
    container_id = done.stdout.strip()
    pid = _listed(stack, "brief")["pid"]  # type: ignore[index]
    os.kill(int(json.loads((stack.state / "up.json").read_text())["pid"]), signal.SIGKILL)
    os.kill(_status(stack)["agent"]["pid"], signal.SIGKILL)
    Path(f"/proc/{pid}/root/go").touch()
    eventually(lambda: not Path(f"/proc/{pid}/cwd").exists(), what="the container has ended")
    stack.up()
    row = eventually(lambda: _in_status(stack, "brief", "exited"), what="the end is reported")
    assert row["exit_code"] == 9

    def exits() -> list[Any]:
        lines = stack.hythe("events", "--since", "10m", "--no-follow", "--format", "json").stdout.splitlines()
        events = [json.loads(line) for line in lines]
        return [e for e in events if e["topic"] == "/tasks/exit" and e["object_id"] == container_id]

    eventually(lambda: len(exits()) == 1, what="one exit event")
    assert stack.hythe("rm", "brief").code == 0
    assert len(exits()) == 1


def test_down_keep_leaves_containers_for_the_next_up(make_stack: Callable[..., Stack], busybox: str) -> None:
    """`hythe down --keep` leaves containers running; the next `hythe up` adopts them with pid, log and name."""
    stack = make_stack()
    stack.up()
    script = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.1; done"
    assert stack.hythe("run", "-d", "--name", "counter", busybox, "sh", "-c", script).code == 0
    pid = _listed(stack, "counter")["pid"]  # type: ignore[index]
    kept = stack.hythe("down", "--keep")
    assert kept.code == 0, kept.stderr
    assert Path(f"/proc/{pid}/cwd").exists()
    assert not any("hythe_" in command for command in stack.places.processes().values())
    stack.up()
    row = eventually(lambda: _in_status(stack, "counter", "running"), what="it is adopted")
    assert row["pid"] == pid
    lines = stack.hythe("logs", "counter").stdout.splitlines()
    assert lines == [str(n) for n in range(len(lines))]
    assert stack.hythe("rm", "-f", "counter").code == 0
    assert not Path(f"/proc/{pid}/cwd").exists()


def test_down_stops_containers_and_removes_what_it_made(make_stack: Callable[..., Stack], busybox: str) -> None:
    """`hythe down` stops every container and leaves no process, mount or cgroup."""
    stack = make_stack()
    stack.up()
    assert stack.hythe("run", "-d", busybox, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done").code == 0
    assert stack.hythe("run", "-d", busybox, "sleep", "600").code == 0
    done = stack.down()
    assert done.code == 0, done.stderr
    assert stack.places.settled() == []


def test_two_stacks_run_side_by_side(make_stack: Callable[..., Stack], busybox: str) -> None:
    """Two stacks with different root and state know nothing of each other; stopping one leaves the other at work."""
    one, two = make_stack(), make_stack()
    one.up()
    two.up()
    assert one.hythe("run", "-d", "--name", "same", busybox, "sleep", "600").code == 0
    assert two.hythe("run", "-d", "--name", "same", busybox, "sleep", "600").code == 0
    assert one.down().code == 0
    assert one.places.settled() == []
    assert _listed(two, "same")["status"] == "running"  # type: ignore[index]
    assert two.hythe("run", "--rm", busybox, "echo", "still here").stdout == "still here\n"


def test_foreground_up_stops_cleanly_on_interrupt(make_stack: Callable[..., Stack]) -> None:
    """`hythe up` in the foreground shows each process, and SIGINT stops them all."""
    stack = make_stack()
    running = stack.popen("up")
    eventually(lambda: stack.hythe("status").code == 0, timeout_s=30, what="the stack is healthy")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    for service in SERVICES:
        assert service in out + err
    assert stack.places.settled() == []
