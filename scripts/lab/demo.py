"""From a checkout to a container's own words: a stack, a registry, one run, its trace, and nothing left behind."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from types import FrameType

from scripts.lab.images import busybox
from scripts.lab.leaks import network_namespaces
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack, StackFailed

WORDS = (
    "anchor",
    "beacon",
    "bollard",
    "capstan",
    "estuary",
    "ferry",
    "harbour",
    "jetty",
    "keel",
    "lantern",
    "mooring",
    "quay",
)


class DemoFailed(Exception):
    """The demo did not show what it promises; the message says what happened instead."""


def main() -> int:
    """Show the demo; exit code 0 only if the container's own output was seen and nothing was left behind."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if os.geteuid() != 0:
        print("error: demo: running containers needs root", file=sys.stderr)
        return 1
    start = time.monotonic()
    namespaces = network_namespaces()
    stack = Stack("demo")
    failure = ""
    try:
        with Registry(stack.base / "registry") as registry:
            show(stack, registry)
    except (DemoFailed, StackFailed, subprocess.TimeoutExpired, OSError, TimeoutError) as error:
        failure = str(error)
        print(stack.logs(), file=sys.stderr)
    finally:
        step("stop everything: hythe down")
        left = stack.close() + [f"network namespace {name}" for name in sorted(network_namespaces() - namespaces)]
    for line in left:
        print(f"error: demo: left behind: {line}", file=sys.stderr)
    if failure:
        print(f"error: demo: {failure}", file=sys.stderr)
    if failure or left:
        return 1
    step(f"done in {time.monotonic() - start:.1f} s; no process, mount, network namespace, cgroup or file is left")
    return 0


def show(stack: Stack, registry: Registry) -> None:
    """Run one container in `stack` from an image in `registry`, compare what it said, and print its trace.

    Raises:
        DemoFailed: the output, the exit code or the trace is not what it should be.
        StackFailed: the stack did not start.
    """
    step("start a single-host stack: hythe up --detach")
    stack.up()
    print(stack.hythe("status").stdout, end="", flush=True)

    step(f"seed a registry on {registry.address} with an image made from busybox-static")
    reference = registry.push(busybox().build(), "busybox:latest")

    words = f"hello from hythe {random.choice(WORDS)}"
    trace_id = secrets.token_hex(16)
    command = ["run", "--rm", reference, "echo", words]
    step(f'hythe run --rm {reference} echo "{words}"')
    done = stack.hythe(*command, variables={"TRACEPARENT": f"00-{trace_id}-{secrets.token_hex(8)}-01"})
    print(done.stdout, end="", flush=True)
    if done.code != 0 or done.stdout != words + "\n":
        raise DemoFailed(f"expected {words!r} and exit code 0, got {done.stdout!r} and {done.code}\n{done.stderr}")

    step(f"the trace of that run: hythe trace show {trace_id}")
    trace = stack.hythe("trace", "show", trace_id)
    print(trace.stdout, end="", flush=True)
    if trace.code != 0 or not trace.stdout.strip():
        raise DemoFailed(f"hythe trace show: exit code {trace.code}\n{trace.stderr}")


def step(text: str) -> None:
    """Say what comes next."""
    print(f"\n== {text}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
