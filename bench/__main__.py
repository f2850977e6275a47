"""``python -m bench``: runs, bus calls and the stack at rest, beside bare conmon + runc and containerd, in one run.

Everything is interleaved (A B C A B C …) on the same file system, after one round that does not count; images are
unpacked. Ratios are the stable numbers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import stack as measured
from bench.floor import Floor
from bench.peers import Containerd
from bench.report import Series, Verdict, save, show
from scripts.lab.images import busybox
from scripts.lab.leaks import hierarchies
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out" / "run.json"
RUN = "hythe run --rm --network none IMAGE true"
OVER_BUS = "the same asked over the bus, no command"
FLOOR = "conmon + runc create, start, exit, delete"
CTR = "ctr run --rm IMAGE ID true"
PYTHON = "python -I -S -c pass"
MIB = 1 << 20
SETTLE_S = 3.0
CALLS = 2000
TRACED_RUNS = 9


def interleaved(subjects: dict[str, Callable[[], float]], rounds: int) -> dict[str, Series]:
    """Run each subject once a round, after one round that does not count."""
    for run in subjects.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            times[name].append(run())
    return {name: Series(name, tuple(seconds)) for name, seconds in times.items()}


def bare_python() -> float:
    """Start and end a Python that does nothing; return the seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - start


def remove_cgroup(name: str) -> None:
    """Remove the cgroup `name`, with empty ones in it, from each hierarchy."""
    for top in hierarchies():
        for path in sorted((top / name).rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        if (top / name).is_dir():
            (top / name).rmdir()


def verdicts_of(series: dict[str, Series], memory: dict[str, int], busy: dict[str, float]) -> list[Verdict]:
    """Return each figure that has a target, and the ratios."""
    p50 = {name: one.quantile(0.5) for name, one in series.items()}
    verdicts = [Verdict("hythe run / bare conmon + runc", p50[RUN] / p50[FLOOR], "x")]
    if CTR in series:
        verdicts.append(Verdict("hythe run / ctr run", p50[RUN] / p50[CTR], "x", 0.70))
    return [
        *verdicts,
        Verdict("run over the bus / bare conmon + runc", p50[OVER_BUS] / p50[FLOOR], "x", 1.5),
        Verdict("empty bus call of the command line, p50", p50["an empty call, command line's client"], "ms", 1.0),
        Verdict("empty bus call of a service, p50", p50["an empty call, services' bus layer"], "ms", 1.0),
        Verdict("hythe ps, whole process, p50", p50["hythe ps"], "ms", 60.0),
        Verdict("memory of the idle stack (PSS)", sum(memory.values()) / MIB, "MiB", 350.0),
        Verdict("processor of the idle stack, % of one", 100 * sum(busy.values()), "%", 1.0),
    ]


def main() -> int:
    """Measure, print, save; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="runs of each subject (30)")
    parser.add_argument(
        "--rest", type=float, default=20.0, metavar="SECONDS", help="how long the idle stack is watched (20)"
    )
    arguments = parser.parse_args()
    notes: list[str] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hythe-bench-")))
        registry = stack.enter_context(Registry(directory / "registry"))
        reference = registry.push(busybox().build(), "busybox:latest")
        hythe = Stack("bench")
        stack.callback(hythe.close)
        hythe.up()
        print("measuring the stack at rest …", flush=True)
        time.sleep(SETTLE_S)
        busy = measured.busy_share(hythe, arguments.rest)
        memory = measured.memory_bytes(hythe)
        hythe.hythe("pull", reference)
        cgroup = f"{hythe.cgroup_parent}-floor"
        stack.callback(remove_cgroup, cgroup)
        measured.copy_bundle(hythe, reference, directory / "floor" / "bundle")
        floor = Floor(directory / "floor", f"/{cgroup}")
        bus = measured.connect(hythe)
        stack.callback(bus.close)
        subjects = {
            RUN: measured.command(hythe, "run", "--rm", "--network", "none", reference, "true"),
            OVER_BUS: measured.run_over_the_bus(bus, reference),
            FLOOR: floor.conmon_and_runc,
            "runc run": floor.runc_run,
            "hythe ps": measured.command(hythe, "ps"),
            "hythe version": measured.command(hythe, "version"),
            PYTHON: bare_python,
        }
        if reason := Containerd.missing():
            notes.append(f"containerd was not measured: {reason}")
        else:
            containerd = stack.enter_context(Containerd(directory / "containerd"))
            containerd.pull(reference)
            subjects[CTR] = lambda: containerd.run(reference)
        print(f"measuring {len(subjects)} subjects, {arguments.rounds} rounds …", flush=True)
        series = interleaved(subjects, arguments.rounds)
        print(f"measuring {CALLS} calls of each client …", flush=True)
        for name, seconds in (
            ("an empty call, command line's client", measured.calls_of_the_command_line(bus, CALLS)),
            ("an empty call, services' bus layer", measured.calls_of_a_service(hythe, CALLS)),
        ):
            series[name] = Series(name, tuple(seconds))
        steps = measured.time_by_step(hythe, reference, TRACED_RUNS)
    verdicts = verdicts_of(series, memory, busy)
    show([*series.values()], verdicts, notes, steps)
    details = {"memory_bytes": memory, "busy_share": busy, "steps_s": steps}
    save(OUT, [*series.values()], verdicts, details, notes)
    print(f"\n  all figures: {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
