"""``python -m bench.content_fetch``: the ``dev`` image from a registry into content, not unpacked, beside its peers.

The registry is a real docker-registry on loopback. Each run has a fresh file system, and all are interleaved (A B C A B C …).
Hythe is asked over its bus, and everything is durable when it answers; so it is with containerd. skopeo makes nothing
durable, and docker unpacks as well. Then, not timed: the most memory that the distribution service has during a fetch, and
how often each blob is sent for ten pulls at once.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.disks import fresh_disk
from bench.fetch import bare
from bench.peers import Containerd, Dockerd
from bench.report import Series, Verdict, save, show
from bench.stack import connect
from hythe.client.sync_bus import SyncBus
from hythe.subjects import rpc
from scripts.lab.dev_image import dev_image
from scripts.lab.images import Image
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out"
HYTHE = "hythe, image.pull of the service"
CTR = "ctr content fetch"
SKOPEO = "skopeo copy to a directory"
DOCKER = "docker pull (unpacks as well)"
FLOOR = "http.client, sha256, fsync; 3 threads"
PULLS_AT_ONCE = 10
SAMPLE_S = 0.005
MIB = 1 << 20

_SENT = re.compile(r'"GET /v2/[^" ]+/blobs/(sha256:[0-9a-f]{64})[^"]*" (?:200|206) (\d+)')


@contextmanager
def stack_on(disk: Path) -> Iterator[tuple[Stack, SyncBus]]:
    """Run a block with a stack whose content is on `disk`."""
    stack = Stack("fetch", root=disk / "root")
    try:
        stack.up()
        bus = connect(stack)
        try:
            yield stack, bus
        finally:
            bus.close()
    finally:
        stack.close()


def fetch(bus: SyncBus, reference: str) -> float:
    """Have the distribution service fetch an image; return the seconds."""
    start = time.perf_counter()
    subject = rpc("default", bus.key_name, "distribution", "image", "pull")
    for _ in bus.operate(subject, {"reference": reference}):
        pass
    return time.perf_counter() - start


def with_hythe(disk: Path, reference: str) -> float:
    """Fetch by a stack that has just been started; return the seconds of the fetch."""
    with stack_on(disk) as (_, bus):
        return fetch(bus, reference)


def with_containerd(disk: Path, reference: str) -> float:
    """Fetch by a containerd that has just been started; return the seconds of the whole ``ctr``."""
    with Containerd(disk / "containerd") as containerd:
        return containerd.fetch(reference)


def with_docker(disk: Path, reference: str) -> float:
    """Pull by a dockerd that has just been started; return the seconds of the whole ``docker``."""
    with Dockerd(disk / "docker") as docker:
        return docker.pull(reference)


def with_skopeo(disk: Path, reference: str) -> float:
    """Copy by skopeo; return the seconds of the whole process."""
    command = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"dir:{disk / 'image'}"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def contenders(reference: str, image: Image) -> tuple[dict[str, Callable[[Path], float]], list[str]]:
    """Return what fetches onto a disk, by name, and why some are not there."""
    address, _, rest = reference.partition("/")
    digests = [blob.digest for blob in sorted(image.blobs, key=lambda blob: -len(blob.data))]
    found: dict[str, Callable[[Path], float]] = {
        HYTHE: lambda disk: with_hythe(disk, reference),
        FLOOR: lambda disk: bare(address, rest.partition(":")[0], digests, disk / "bare", 3),
    }
    notes = []
    for name, missing, run in (
        (CTR, Containerd.missing(), with_containerd),
        (SKOPEO, "" if shutil.which("skopeo") else "skopeo not installed", with_skopeo),
        (DOCKER, Dockerd.missing(), with_docker),
    ):
        if missing:
            notes.append(f"{name} was not measured: {missing}")
        else:
            found[name] = lambda disk, run=run: run(disk, reference)  # type: ignore[misc]
    return found, notes


def peak_memory(directory: Path, reference: str) -> tuple[int, int]:
    """Return the proportional set size of the distribution service at rest and at its most during a fetch, in bytes."""
    with fresh_disk(directory) as disk, stack_on(disk) as (stack, bus):
        lines = stack.places.processes()
        (pid,) = [pid for pid, line in lines.items() if "distribution" in line and "supervis" not in line]
        samples, ended = [_pss_bytes(pid)], threading.Event()

        def watch() -> None:
            while not ended.wait(SAMPLE_S):
                samples.append(_pss_bytes(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        fetch(bus, reference)
        ended.set()
        watcher.join()
        return samples[0], max(samples)


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no proportional set size")


def downloads(directory: Path, registry: Registry, reference: str, image: Image) -> dict[str, float]:
    """Return how often the registry sends each blob, by its log, when ten pull the image at once; 1.0 is once."""
    log = registry.directory / "log"
    already = log.stat().st_size
    with fresh_disk(directory) as disk, stack_on(disk) as (stack, _):

        def pull(number: int) -> None:
            bus = connect(stack)
            try:
                fetch(bus, reference)
            finally:
                bus.close()

        with ThreadPoolExecutor(PULLS_AT_ONCE) as threads:
            list(threads.map(pull, range(PULLS_AT_ONCE)))
    sent: Counter[str] = Counter()
    with log.open("rb") as file:
        file.seek(already)
        for digest, size in _SENT.findall(file.read().decode(errors="replace")):
            sent[digest] += int(size)
    return {blob.digest: sent[blob.digest] / len(blob.data) for blob in image.blobs}


def measure(directory: Path, cache: Path, rounds: int) -> None:
    """Measure, print and save."""
    print("making the image …", flush=True)
    image = dev_image(cache)
    size_mib = sum(len(blob.data) for blob in image.blobs) / MIB
    with Registry(directory / "registry") as registry:
        reference = registry.push(image, "dev:1")
        subjects, notes = contenders(reference, image)
        times: dict[str, list[float]] = {name: [] for name in subjects}
        print(f"fetching {size_mib:.0f} MiB, {len(subjects)} subjects, {rounds} rounds …", flush=True)
        for number in range(rounds + 1):
            for name, run in subjects.items():
                with fresh_disk(directory) as disk:
                    seconds = run(disk)
                if number or rounds == 0:  # the first round fills caches and does not count
                    times[name].append(seconds)
        rest_bytes, peak_bytes = peak_memory(directory, reference)
        sent = downloads(directory, registry, reference, image)
    series = [Series(name, tuple(seconds)) for name, seconds in times.items()]
    p50 = {one.name: one.quantile(0.5) for one in series}
    verdicts = [
        *(Verdict(f"hythe / {name}", p50[HYTHE] / p50[name], "x") for name in p50 if name != HYTHE),
        Verdict("hythe", size_mib / (p50[HYTHE] / 1000), "MiB/s"),
        Verdict("distribution service at rest (PSS)", rest_bytes / MIB, "MiB"),
        Verdict("distribution service at its most (PSS)", peak_bytes / MIB, "MiB"),
        Verdict(f"{PULLS_AT_ONCE} pulls at once: most often sent blob", max(sent.values()), "times", 1.0),
    ]
    show(series, verdicts, notes, {})
    save(OUT / "content-fetch.json", series, verdicts, {"sent": sent, "size_mib": size_mib}, notes)


def main() -> int:
    """Measure in a fresh directory; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.content_fetch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="fetches of each subject (9)")
    parser.add_argument("--cache", type=Path, default=OUT / "dev-image", help="where the image's layers are kept")
    parser.add_argument("--directory", type=Path, help="where to work; its disk is what is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hythe-bench-", dir=arguments.directory) as directory:
        measure(Path(directory), arguments.cache, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
