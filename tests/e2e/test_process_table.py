"""Which command needs which process: with one of them stopped, those that need it say so within 2 s, all others work."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.lab.images import ImageBuilder, Layer, busybox_layer
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

AT_ONCE = 4
PROCESSES = ("nats-server", "metadata", "distribution", "bundle", "runtime", "agent")

NEEDS: dict[str, frozenset[str]] = {
    "run": frozenset({"nats-server", "metadata", "bundle", "runtime", "agent"}),
    "run of a new image": frozenset(PROCESSES),
    "pull": frozenset({"nats-server", "metadata", "distribution", "bundle", "runtime"}),
    "images": frozenset({"nats-server", "metadata", "distribution"}),
    "ps": frozenset({"nats-server", "runtime"}),
    "logs": frozenset({"nats-server", "runtime", "agent"}),
    "inspect": frozenset({"nats-server", "runtime"}),
    "rm": frozenset({"nats-server", "metadata", "runtime", "agent"}),
    "trace ls": frozenset({"nats-server"}),
    "status": frozenset(),
    "logs --service": frozenset(),
    "config": frozenset(),
    "doctor": frozenset(),
    "version": frozenset(),
}
"""Command → the processes that it needs. `status` and `doctor` never fail to answer, but their exit code tells."""


@pytest.fixture(scope="module")
def table_stack(busybox: str) -> Iterator[Stack]:
    """A stack of this module's own, with an image and an ended container."""
    stack = Stack("table")
    try:
        stack.up()
        assert stack.hythe("pull", busybox).code == 0
        yield stack
    finally:
        left = stack.close()
        assert not left, "\n".join(left)


def pid_of(stack: Stack, process: str) -> int:
    """Return the pid of one of the stack's processes as `hythe status` tells it."""
    rows = [json.loads(line) for line in stack.hythe("status", "--format", "json").stdout.splitlines()]
    return int(next(row["pid"] for row in rows if row["name"] == process))


def commands(registry: Registry, image: str) -> dict[str, Callable[[], list[str]]]:
    """Return each command of the table as a function that makes its arguments."""
    fresh = iter(range(1_000_000))

    def new_image() -> str:
        layer = Layer().file("fresh", os.urandom(16))
        builder = ImageBuilder().layer(busybox_layer()).layer(layer).config(Cmd=["true"], Env=["PATH=/bin"])
        return registry.push(builder.build(), f"fresh-{os.urandom(4).hex()}-{next(fresh)}:latest")

    return {
        "run": lambda: ["run", "--rm", image, "true"],
        "run of a new image": lambda: ["run", "--rm", new_image(), "true"],
        "pull": lambda: ["pull", new_image()],
        "images": lambda: ["images"],
        "ps": lambda: ["ps", "-a"],
        "logs": lambda: ["logs", "ended"],
        "inspect": lambda: ["inspect", "ended"],
        "rm": lambda: ["rm", "ended"],
        "trace ls": lambda: ["trace", "ls"],
        "status": lambda: ["status"],
        "logs --service": lambda: ["logs", "--service", "metadata"],
        "config": lambda: ["config"],
        "doctor": lambda: ["doctor"],
        "version": lambda: ["version"],
    }


@pytest.mark.parametrize("process", PROCESSES)
def test_stopped_process_fails_only_what_needs_it(
    table_stack: Stack, registry: Registry, busybox: str, process: str
) -> None:
    """A process that hangs (SIGSTOP, the hard case) is named within 2 s by each command that needs it; the others work."""
    stack = table_stack
    if stack.hythe("inspect", "ended").code != 0:
        assert stack.hythe("run", "--name", "ended", busybox, "echo", "done").code == 0
    made = {name: make() for name, make in commands(registry, busybox).items()}
    pid = pid_of(stack, process)
    os.kill(pid, signal.SIGSTOP)
    needing = [name for name in made if process in NEEDS[name]]
    others = [name for name in made if name not in needing and name != "rm"]
    wrong = []
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:  # they only wait
            ended = list(threads.map(lambda name: stack.hythe(*made[name], timeout_s=30), needing))
        for name, done in zip(needing, ended, strict=True):
            if done.code == 0 or process not in done.stderr or done.seconds > 2.0:
                wrong.append(f"{name}: code {done.code} after {done.seconds:.2f} s: {done.stderr!r}")
        if "rm" not in needing:
            others.append("rm")  # last, for it takes away what others read
        for name in others:
            done = stack.hythe(*made[name], timeout_s=30)
            if done.code != 0 and name not in ("status", "doctor"):
                wrong.append(f"{name}: must work without {process}: code {done.code}: {done.stderr!r}")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not wrong, "\n".join(wrong)
    eventually(lambda: stack.hythe("run", "--rm", busybox, "true").code == 0, timeout_s=20, what="a run works again")
    eventually(lambda: stack.hythe("status").code == 0, timeout_s=20, what="all is healthy again")


def test_dead_process_that_nobody_restarts_is_named(make_stack: Callable[..., Stack], busybox: str) -> None:
    """With `hythe up` and then a service killed, the command that needs the service names it at once and says what to do."""
    stack = make_stack()
    stack.up()
    supervisor = int(json.loads((stack.state / "up.json").read_text())["pid"])
    os.kill(supervisor, signal.SIGKILL)
    pid = pid_of(stack, "runtime")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}/cwd").exists(), what="runtime is dead")
    done = stack.hythe("ps")
    assert done.code != 0
    assert "runtime" in done.stderr
    assert "hythe up" in done.stderr
    assert done.seconds < 2.0


def test_commands_without_a_stack_say_how_to_start_it(make_stack: Callable[..., Stack], busybox: str) -> None:
    """With no stack up, each command that needs one says so and how to start it."""
    stack = make_stack()
    for arguments in (["ps"], ["run", busybox, "true"], ["pull", busybox], ["images"], ["events"], ["trace", "ls"]):
        done = stack.hythe(*arguments)
        assert done.code != 0
        assert "hythe up" in done.stderr, (arguments, done.stderr)
