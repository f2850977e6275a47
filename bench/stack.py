"""What is measured of a whole stack: commands from outside, work over the bus, where a run's time goes, rest."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.memory import pss_bytes
from hythe import settings
from hythe.bus.connection import Bus
from hythe.client.sync_bus import SyncBus, open_bus
from hythe.errors import NotFound
from hythe.identifiers import new_id
from hythe.metrics import Metrics
from hythe.subjects import rpc
from hythe.telemetry import Telemetry
from hythe.wire.operation import OperationGet, OperationState
from scripts.lab.stack import Stack, StackFailed


def command(stack: Stack, *arguments: str) -> Callable[[], float]:
    """Return a function that runs a `hythe` command once and returns the seconds of the whole process."""
    whole = [str(stack.program), *arguments]
    environment = stack.environment()

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(whole, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start

    return run


def run_over_the_bus(bus: SyncBus, image: str) -> Callable[[], float]:
    """Return a function that runs ``true`` once without a command's start and without its output; returns the seconds."""

    def run() -> float:
        container = new_id()
        body = {"id": container, "image": image, "spec": {"args": ["true"], "auto_remove": True}}
        start = time.perf_counter()
        subject = rpc("default", bus.key_name, "runtime", "container", "run")
        last = list(bus.operate(subject, body, request_id=container))[-1]
        assert last[1]["status"]["exit_code"] == 0, last
        return time.perf_counter() - start

    return run


def connect(stack: Stack) -> SyncBus:
    """Connect to a stack's bus as the command line does."""
    return open_bus(settings.load(environment=stack.environment()))


def copy_bundle(stack: Stack, image: str, directory: Path) -> None:
    """Copy the bundle that Hythe makes for a container of `image` to the new `directory`, without root file system."""
    made = stack.hythe("run", "-d", image, "sleep", "600")
    assert made.code == 0, made.stderr
    container = made.stdout.strip()
    (bundle,) = (stack.root / "bundle" / "bundles").glob(f"*/{container}")
    directory.mkdir(parents=True)
    for path in bundle.iterdir():
        if path.is_file():
            shutil.copy(path, directory)
    config = (bundle / "config.json").read_text().replace(str(bundle), str(directory))
    (directory / "config.json").write_text(config)
    assert stack.hythe("rm", "-f", container).code == 0


def calls_of_the_command_line(bus: SyncBus, count: int) -> list[float]:
    """Return the seconds of each of `count` calls by the command line's client: a question that finds nothing."""
    subject = rpc("default", bus.key_name, "runtime", "operation", "get")
    times = []
    for number in range(count):
        start = time.perf_counter()
        try:
            bus.call(subject, {"id": f"none-{number}"})
        except NotFound:
            times.append(time.perf_counter() - start)
    return times


def calls_of_a_service(stack: Stack, count: int) -> list[float]:
    """As `calls_of_the_command_line`, by the bus layer of the services, which traces each call."""

    async def measure() -> list[float]:
        loaded = settings.load(environment=stack.environment())
        bus = await Bus.connect(loaded, "admin", Metrics("bench"))
        telemetry = Telemetry("bench", loaded.host)
        telemetry.start(bus.publish)
        subject = rpc("default", bus.key_name, "runtime", "operation", "get")
        times = []
        for number in range(count):
            start = time.perf_counter()
            try:
                await bus.call(subject, OperationGet(id=f"none-{number}"), OperationState)
            except NotFound:
                times.append(time.perf_counter() - start)
        await telemetry.stop()
        await bus.close()
        return times

    return asyncio.run(measure())


def time_by_step(stack: Stack, image: str, runs: int) -> dict[str, float]:
    """Return the median seconds that each step spends by itself on the critical path of a run, by its own trace."""
    run = ("run", "--rm", "--network", "none", image, "true")
    return median_by_step([traced(stack, *run) for _ in range(runs)])


def traced(stack: Stack, *arguments: str) -> dict[str, float]:
    """Run a `hythe` command; return the seconds that each step spends by itself on its critical path, by its trace."""
    trace_id = secrets.token_hex(16)
    variables = {"TRACEPARENT": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    assert stack.hythe(*arguments, variables=variables).code == 0
    trace = json.loads(stack.hythe("trace", "show", trace_id, "--format", "json").stdout)
    steps: dict[str, float] = defaultdict(float)
    for span in trace["spans"]:
        arrow = "→ " if span["kind"] == "client" else ""
        steps[f"{arrow}{span['name']} ({span['service']})"] += span["critical_ns"] / 1e9
    return steps


def median_by_step(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median seconds of each step over the runs that have it, the longest first."""
    spent: dict[str, list[float]] = defaultdict(list)
    for steps in runs:
        for name, seconds in steps.items():
            spent[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def pid_of(stack: Stack, service: str) -> int:
    """Return the process id of a service of the stack, by its name in `hythe status`.

    Raises:
        StackFailed: the stack has no such service.
    """
    done = stack.hythe("status", "--format", "json")
    for process in map(json.loads, done.stdout.splitlines()):
        if process["name"] == service:
            return int(process["pid"])
    raise StackFailed(f"hythe status tells of no {service}\n{done.stdout}{done.stderr}")


def memory_bytes(stack: Stack) -> dict[str, int]:
    """Return the proportional set size of each of the stack's processes, by command line."""
    return {f"{_short(line)} ({pid})": pss_bytes(pid) for pid, line in stack.places.processes().items()}


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
