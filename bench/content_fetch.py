"""``python -m bench.content_fetch``: fetching an image into content, not unpacked, beside containerd, skopeo and docker.

A real docker-registry on loopback has the ``dev`` image. Everyone fetches it into a fresh ext4, interleaved
(A B C A B C …), after one round that does not count; daemons run before the clock does, and the whole command is timed.
The floor is ``http.client`` in three threads with sha256 and fsync, in a process that runs already. `docker pull` unpacks as
well, so it is told where docker is installed, but there is no target beside it.

Then, not timed: where the time of a pull goes, by its trace; the most memory that the distribution service has during one
pull and during ten at once, and with ``--large`` for an image with one layer of 1 GiB; and how many bytes of each blob the
registry sends for ten pulls at once into an empty store. A large blob may come in parts, so bytes are counted, not requests.

``make bench-fetch`` installs what is missing. Root is needed for the file systems.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.fetch_floor import bare
from bench.memory import Memory, memory_during
from bench.peers import Containerd, Dockerd, Skopeo
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
from bench.sent import Sent, sent_since
from bench.stack import median_by_step, pid_of, traced
from scripts.lab.dev_image import dev_image
from scripts.lab.disks import fresh_disk
from scripts.lab.images import ImageBuilder
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out"
NO_UNPACK = ("--no-unpack",)
HYTHE = "hythe pull --no-unpack"
CTR = "ctr content fetch"
SKOPEO = "skopeo copy to a directory"
DOCKER = "docker pull (unpacks as well)"
FLOOR = "http.client, sha256, fsync, 3 threads"
FLOOR_THREADS = 3
CTR_TARGET = 0.5
MEMORY_TARGET_MB = 150.0
SENT_TARGET = 1.05
PULLS_AT_ONCE = 10
TRACED_PULLS = 3
LARGE_LAYER_BYTES = 1 << 30


def fetch(stack: Stack, reference: str) -> float:
    """Fetch an image by the command; return the seconds of the whole process."""
    return pull(stack, reference, *NO_UNPACK)


def pull_many(stack: Stack, reference: str) -> None:
    """Fetch an image by ten commands that are started together."""
    with ThreadPoolExecutor(PULLS_AT_ONCE) as threads:
        list(threads.map(lambda _: fetch(stack, reference), range(PULLS_AT_ONCE)))


def contenders(subject: Subject) -> tuple[dict[str, Contender], list[str]]:
    """Return what fetches the image to a disk in how many seconds, by name, and why some are not there."""
    address, _, name = subject.reference.partition("/")
    largest_first = sorted(subject.sizes, key=lambda digest: -subject.sizes[digest])

    def with_hythe(disk: Path) -> float:
        with stack_on(disk) as stack:
            os.sync()
            return fetch(stack, subject.reference)

    def with_containerd(disk: Path) -> float:
        containerd = Containerd(disk / "containerd")
        return settled(containerd, lambda: containerd.fetch(subject.reference))

    def with_docker(disk: Path) -> float:
        docker = Dockerd(disk / "docker")
        return settled(docker, lambda: docker.pull(subject.reference))

    def with_skopeo(disk: Path) -> float:
        os.sync()
        return Skopeo.fetch(subject.reference, disk / "image")

    def with_nothing(disk: Path) -> float:
        os.sync()
        return bare(address, name.partition(":")[0], largest_first, disk / "blobs", FLOOR_THREADS)

    return there(
        (HYTHE, "", with_hythe),
        (FLOOR, "", with_nothing),
        (CTR, Containerd.missing(), with_containerd),
        (SKOPEO, Skopeo.missing(), with_skopeo),
        (DOCKER, Dockerd.missing(), with_docker),
    )


def steps_of(subject: Subject) -> dict[str, float]:
    """Return the median seconds of each step of a pull by itself on its critical path, by its trace."""
    runs = []
    for _ in range(TRACED_PULLS):
        with fresh_disk(subject.directory, DISK_BYTES) as disk, stack_on(disk) as stack:
            runs.append(traced(stack, "pull", *NO_UNPACK, subject.reference))
    return median_by_step(runs)


def memory_of(subject: Subject, work: Callable[[Stack, str], object]) -> tuple[Memory, dict[str, Sent]]:
    """Return the distribution service's memory while `work` fetches into an empty store, and what the registry sent."""
    log = subject.registry.directory / "log"
    already = log.stat().st_size
    with fresh_disk(subject.directory, DISK_BYTES) as disk, stack_on(disk) as stack:
        memory = memory_during(pid_of(stack, "distribution"), lambda: work(stack, subject.reference))
    return memory, sent_since(log, already, subject.sizes)


def verdicts_of(
    subject: Subject, series: Sequence[Series], memories: Mapping[str, Memory], at_once: Mapping[str, Sent]
) -> list[Verdict]:
    """Return each figure that has a target, ratios and rates."""
    p50 = {one.name: one.quantile(0.5) for one in series}
    targets = {CTR: CTR_TARGET}
    most = max(at_once[digest].size_bytes / size for digest, size in subject.sizes.items())
    everything = sum(one.size_bytes for one in at_once.values()) / subject.total_bytes
    return [
        *(Verdict(f"hythe / {name}", p50[HYTHE] / p50[name], "x", targets.get(name)) for name in p50 if name != HYTHE),
        *(Verdict(name, subject.total_bytes / MB / (ms / 1000), "MB/s") for name, ms in p50.items()),
        *(Verdict(f"most memory (PSS), {what}", memory.peak_bytes / MB, "MB", MEMORY_TARGET_MB)
          for what, memory in memories.items()),
        *(Verdict(f"most resident, {what}", memory.peak_resident_bytes / MB, "MB")
          for what, memory in memories.items()),
        Verdict(f"{PULLS_AT_ONCE} pulls at once: most sent of one blob / its size", most, "x", SENT_TARGET),
        Verdict(f"{PULLS_AT_ONCE} pulls at once: sent of all blobs / their size", everything, "x", SENT_TARGET),
    ]  # fmt: skip


def measure(directory: Path, cache: Path, rounds: int, large: bool) -> None:
    """Measure, print and save."""
    say("making the dev image, if it is not kept already")
    with Registry(directory / "registry") as registry:
        subject = offered(dev_image(cache), "dev:1", registry, directory)
        runs, notes = contenders(subject)
        say(f"fetching {subject.total_bytes / MB:.0f} MB by {len(runs)} subjects, {rounds} rounds and one before")
        series = interleaved(subject, runs, rounds)
        say(f"tracing {TRACED_PULLS} pulls")
        steps = steps_of(subject)
        say(f"watching the memory of one pull, then of {PULLS_AT_ONCE} at once")
        memories = {"one pull": memory_of(subject, fetch)[0]}
        memories[f"{PULLS_AT_ONCE} pulls at once"], at_once = memory_of(subject, pull_many)
        if large:
            say("watching the memory of a pull of 1 GiB in one layer")
            image = ImageBuilder().layer(os.urandom(LARGE_LAYER_BYTES), "none").build()
            memories["one layer of 1 GiB"], _ = memory_of(offered(image, "large:1", registry, directory), fetch)
    requests = sum(one.requests for one in at_once.values())
    notes.append(f"{PULLS_AT_ONCE} pulls at once: {len(at_once)} blobs came in {requests} requests")
    verdicts = verdicts_of(subject, series, memories, at_once)
    details: dict[str, object] = {
        "image": {"reference": "dev", "blob_bytes": subject.sizes},
        "memory": {what: asdict(memory) for what, memory in memories.items()},
        "sent_at_once": {digest: asdict(one) for digest, one in at_once.items()},
        "steps_s": steps,
    }
    show(series, verdicts, notes, steps, HYTHE)
    out = OUT / "content_fetch.json"
    save(out, series, verdicts, details, notes)
    print(f"\n  all figures: {out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out}")


def main() -> int:
    """Measure in a fresh directory; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.content_fetch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="fetches of each subject that count (7)")
    parser.add_argument("--large", action="store_true", help="watch the memory of a layer of 1 GiB, too")
    parser.add_argument("--cache", type=Path, default=OUT / "dev-image", help="where the image is kept (bench/out)")
    parser.add_argument("--directory", type=Path, help="where to work; its disk is what is measured")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    leave_in_order()
    with tempfile.TemporaryDirectory(prefix="hythe-bench-", dir=arguments.directory) as directory:
        measure(Path(directory), arguments.cache, arguments.rounds, arguments.large)
    return 0


if __name__ == "__main__":
    sys.exit(main())
