"""``python -m bench.pull``: a cold pull, unpacked and durable, beside containerd, docker, podman and the bare tools.

A real docker-registry on loopback has the ``dev`` image: six layers, about 200 MB, 14 k entries. Everyone pulls it onto a fresh
ext4, interleaved (A B C A B C …), after one round that does not count; daemons run before the clock does, and the whole
command is timed. Hythe syncs each layer before it is recorded; the peers don't. The floor is ``curl | igzip -dc | tar -x``
for each layer, two at a time and one at a time, and one sync at the end: it verifies and keeps nothing. containerd and
docker take `unpigz`, podman its own library, Hythe isal; containerd is measured without `unpigz`, too.

Then, not timed: where the time of a pull goes, by its trace; the most memory that all processes of the stack and the
command have together during one; and how long a pull takes of an image that is here already.

``make bench-pull`` installs what is missing. Root is needed for the file systems.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import chart, unpack_floor
from bench.memory import peak_of_all
from bench.peers import Containerd, Dockerd, Podman
from bench.pulling import (
    DISK_BYTES,
    MB,
    Contender,
    Subject,
    interleaved,
    leave_in_order,
    offered,
    pull,
    say,
    settled,
    stack_on,
    there,
)
from bench.report import Series, Verdict, save, show
from bench.stack import connect, median_by_step, traced
from hythe.subjects import rpc
from scripts.lab.dev_image import dev_image
from scripts.lab.disks import fresh_disk
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out"
HYTHE = "hythe pull"
CTR = "ctr images pull (unpigz)"
CTR_GO = "ctr images pull (gzip of Go)"
DOCKER = "docker pull"
PODMAN = "podman pull"
FLOOR = "curl | igzip | tar, two at a time"
FLOOR_ONE = "curl | igzip | tar, one at a time"
CTR_TARGET = 0.30
MEMORY_TARGET_MB = 400.0
HERE_TARGET_MS = 30.0
TRACED_PULLS = 3
PULLS_OF_WHAT_IS_HERE = 20


def contenders(subject: Subject) -> tuple[dict[str, Contender], list[str]]:
    """Return what pulls the image onto a disk in how many seconds, by name, and why some are not there."""
    address, _, name = subject.reference.partition("/")
    repository = name.partition(":")[0]
    layers = sorted(subject.sizes, key=lambda digest: -subject.sizes[digest])[: len(subject.sizes) - 1]

    def with_hythe(disk: Path) -> float:
        with stack_on(disk) as stack:
            os.sync()
            return pull(stack, subject.reference)

    def with_containerd(*, unpigz: bool) -> Contender:
        def run(disk: Path) -> float:
            containerd = Containerd(disk / "containerd", unpigz=unpigz)
            return settled(containerd, lambda: containerd.pull(subject.reference))

        return run

    def with_docker(disk: Path) -> float:
        docker = Dockerd(disk / "docker")
        return settled(docker, lambda: docker.pull(subject.reference))

    def with_podman(disk: Path) -> float:
        os.sync()
        return Podman.pull(subject.reference, disk / "podman")

    def bare(at_once: int) -> Contender:
        def run(disk: Path) -> float:
            os.sync()
            return unpack_floor.pipelines(address, repository, layers, disk / "layers", at_once)

        return run

    return there(
        (HYTHE, "", with_hythe),
        (CTR, Containerd.missing(), with_containerd(unpigz=True)),
        (CTR_GO, Containerd.missing(), with_containerd(unpigz=False)),
        (DOCKER, Dockerd.missing(), with_docker),
        (PODMAN, Podman.missing(), with_podman),
        (FLOOR, unpack_floor.missing(), bare(2)),
        (FLOOR_ONE, unpack_floor.missing(), bare(1)),
    )


def steps_of(subject: Subject) -> dict[str, float]:
    """Return the median seconds of each step of a pull by itself on its critical path, by its trace."""
    runs = []
    for _ in range(TRACED_PULLS):
        with fresh_disk(subject.directory, DISK_BYTES) as disk, stack_on(disk) as stack:
            runs.append(traced(stack, "pull", subject.reference))
    return median_by_step(runs)


def watched(subject: Subject) -> tuple[int, Series, Series]:
    """Return the most memory of a cold pull, and the times of pulls of what is here: by the command, and over the bus."""
    with fresh_disk(subject.directory, DISK_BYTES) as disk, stack_on(disk) as stack:
        peak_bytes = peak_of_all(_processes(stack), lambda: pull(stack, subject.reference))
        by_command = tuple(pull(stack, subject.reference) for _ in range(PULLS_OF_WHAT_IS_HERE))
        over_bus = tuple(_over_the_bus(stack, subject.reference))
    return peak_bytes, Series("hythe pull, image is here", by_command), Series("the same over the bus", over_bus)


def _over_the_bus(stack: Stack, reference: str) -> list[float]:
    bus = connect(stack)
    try:
        subject = rpc("default", bus.key_name, "runtime", "image", "pull")
        times = []
        for _ in range(PULLS_OF_WHAT_IS_HERE):
            start = time.perf_counter()
            list(bus.operate(subject, {"reference": reference}))
            times.append(time.perf_counter() - start)
        return times
    finally:
        bus.close()


def _processes(stack: Stack) -> list[int]:
    """Return the process ids of the stack."""
    done = stack.hythe("status", "--format", "json")
    return [int(row["pid"]) for row in map(json.loads, done.stdout.splitlines()) if row.get("pid")]


def verdicts_of(subject: Subject, series: Sequence[Series], peak_bytes: int, here: Sequence[Series]) -> list[Verdict]:
    """Return each figure that has a target, ratios and rates."""
    p50 = {one.name: one.quantile(0.5) for one in series}
    targets = {CTR: CTR_TARGET}
    return [
        *(Verdict(f"hythe / {name}", p50[HYTHE] / p50[name], "x", targets.get(name)) for name in p50 if name != HYTHE),
        *(Verdict(name, subject.total_bytes / MB / (ms / 1000), "MB/s compressed") for name, ms in p50.items()),
        Verdict("most memory (PSS) of all processes, one cold pull", peak_bytes / MB, "MB", MEMORY_TARGET_MB),
        *(Verdict(one.name, 1000 * statistics.median(one.seconds), "ms", HERE_TARGET_MS) for one in here),
    ]


def measure(directory: Path, cache: Path, rounds: int) -> None:
    """Measure, print and save."""
    say("making the dev image, if it is not kept already")
    with Registry(directory / "registry") as registry:
        subject = offered(dev_image(cache), "dev:1", registry, directory)
        runs, notes = contenders(subject)
        say(f"pulling {subject.total_bytes / MB:.0f} MB by {len(runs)} subjects, {rounds} rounds and one before")
        series = interleaved(subject, runs, rounds)
        say(f"tracing {TRACED_PULLS} pulls")
        steps = steps_of(subject)
        say("watching memory, then pulling what is here")
        peak_bytes, *here = watched(subject)
    verdicts = verdicts_of(subject, series, peak_bytes, here)
    details: dict[str, object] = {"image": {"reference": "dev", "blob_bytes": subject.sizes}, "steps_s": steps}
    show([*series, *here], verdicts, notes, steps, HYTHE)
    save(OUT / "pull.json", [*series, *here], verdicts, details, notes)
    written = "pull.json"
    if reason := chart.missing():
        print(f"  note: no chart: {reason}")
    else:
        title = f"cold pull and unpack of the dev image ({len(subject.sizes) - 1} layers, {subject.total_bytes / MB:.0f} MB)"
        chart.draw(series, title, OUT / "pull.png")
        written += ", pull.png"
    print(f"\n  all figures: bench/out/{{{written}}}" if "," in written else f"\n  all figures: bench/out/{written}")


def main() -> int:
    """Measure in a fresh directory; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.pull", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pulls of each subject that count (5)")
    parser.add_argument("--cache", type=Path, default=OUT / "dev-image", help="where the image is kept (bench/out)")
    parser.add_argument("--directory", type=Path, help="where to work; its disk is what is measured")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    leave_in_order()
    with tempfile.TemporaryDirectory(prefix="hythe-bench-", dir=arguments.directory) as directory:
        measure(Path(directory), arguments.cache, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
