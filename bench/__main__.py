"""``python -m bench``: runs, bus calls and the stack at rest, beside bare conmon + runc and containerd, in one run.

Everything is interleaved (A B C A B C …) on the same file system; ratios are the stable numbers.
"""

from __future__ import annotations

import argparse
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
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out" / "run.json"
RUN = "hythe run --rm --network none IMAGE true"
FLOOR = "conmon + runc create, start, exit, delete"
CTR = "ctr run --rm IMAGE ID true"
MIB = 1 << 20
SETTLE_S = 3.0


def interleaved(subjects: dict[str, Callable[[], float]], rounds: int) -> dict[str, Series]:
    """Run each subject once a round, after one round that does not count."""
    for run in subjects.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            times[name].append(run())
    return {name: Series(name, tuple(seconds)) for name, seconds in times.items()}


def main() -> int:
    """Measure, print, save; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="runs of each subject (30)")
    parser.add_argument(
        "--rest", type=float, default=20.0, metavar="SECONDS", help="how long the idle stack is watched"
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
        floor = Floor(directory / "floor")
        subjects = {
            RUN: measured.command(hythe, "run", "--rm", "--network", "none", reference, "true"),
            FLOOR: floor.conmon_and_runc,
            "runc run": floor.runc_run,
            "hythe ps": measured.command(hythe, "ps"),
            "hythe version": measured.command(hythe, "version"),
        }
        if reason := Containerd.missing():
            notes.append(f"containerd was not measured: {reason}")
        else:
            containerd = stack.enter_context(Containerd(directory / "containerd"))
            containerd.pull(reference)
            subjects[CTR] = lambda: containerd.run(reference)
        print(f"measuring {len(subjects)} subjects, {arguments.rounds} rounds …", flush=True)
        series = interleaved(subjects, arguments.rounds)
        calls = Series("an empty call over the bus", tuple(measured.bus_calls(hythe, 1000)))
    run, bare = series[RUN].quantile(0.5), series[FLOOR].quantile(0.5)
    verdicts = [
        Verdict("hythe run / bare conmon + runc", run / bare, "x"),
        Verdict("empty bus call, p50", calls.quantile(0.5), "ms", 1.0),
        Verdict("hythe ps, whole process, p50", series["hythe ps"].quantile(0.5), "ms", 60.0),
        Verdict("memory of the idle stack (PSS)", sum(memory.values()) / MIB, "MiB", 350.0),
        Verdict("processor of the idle stack, % of one", 100 * sum(busy.values()), "%", 1.0),
    ]
    if CTR in series:
        verdicts.insert(1, Verdict("hythe run / ctr run", run / series[CTR].quantile(0.5), "x", 0.70))
    everything = [*series.values(), calls]
    show(everything, verdicts, notes)
    save(OUT, everything, verdicts, {"memory_bytes": memory, "busy_share": busy}, notes)
    print(f"\n  all figures: {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
