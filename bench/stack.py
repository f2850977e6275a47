"""What is measured of a whole stack: commands from outside, a call over the bus, memory and processor at rest."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from hythe import settings
from hythe.client.sync_bus import open_bus
from hythe.errors import NotFound
from hythe.subjects import rpc
from scripts.lab.stack import Stack


def command(stack: Stack, *arguments: str) -> Callable[[], float]:
    """Return a function that runs a `hythe` command once and returns the seconds of the whole process."""
    whole = [str(stack.program), *arguments]
    environment = stack.environment()

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(whole, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start

    return run


def bus_calls(stack: Stack, count: int) -> list[float]:
    """Return the seconds of each of `count` calls over one connection: a request that finds nothing, and its answer."""
    bus = open_bus(settings.load(environment=stack.environment()))
    subject = rpc("default", bus.key_name, "runtime", "operation", "get")
    times = []
    try:
        for number in range(count):
            start = time.perf_counter()
            try:
                bus.call(subject, {"id": f"none-{number}"})
            except NotFound:
                times.append(time.perf_counter() - start)
    finally:
        bus.close()
    return times


def memory_bytes(stack: Stack) -> dict[str, int]:
    """Return the proportional set size of each of the stack's processes, by command line."""
    sizes = {}
    for pid, line in stack.places.processes().items():
        for entry in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if entry.startswith("Pss:"):
                sizes[f"{_short(line)} ({pid})"] = int(entry.split()[1]) * 1024
    return sizes


def _short(line: str) -> str:
    words = [word for word in line.split() if not word.startswith("-")]
    return Path(words[1] if len(words) > 1 and "python" in words[0] else words[0]).name


def busy_share(stack: Stack, seconds: float) -> dict[str, float]:
    """Return the share of one processor that each process of the stack takes over `seconds` of rest."""
    before = {pid: _processor_ns(pid) for pid in stack.places.processes()}
    time.sleep(seconds)
    lines = stack.places.processes()
    return {
        f"{_short(lines[pid])} ({pid})": (_processor_ns(pid) - spent_ns) / 1e9 / seconds
        for pid, spent_ns in before.items()
        if pid in lines
    }


def _processor_ns(pid: int) -> int:
    """Return the time that all threads of a process have run, in nanoseconds: ticks are too coarse for a process at rest."""
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in Path(f"/proc/{pid}/task").iterdir())
