"""How long it takes to fetch an image's blobs, verified and durable, beside the bare floor: the same bytes, without Hythe.

The registry is a real docker-registry on loopback. The floor is ``http.client`` in as many threads with sha256, write
and fsync, and with write-back begun as early as Hythe begins it. Both run interleaved; the ratio is the stable number.

Run: ``python -m bench.fetch [--directory DIR] [--rounds N] [--parallel N] [--mib N ...]``
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe.writeback import WRITEBACK_STEP_BYTES, start_writeback
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.bringing import Bringer
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import NameRecord, Puller, Wish
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolver
from hythe_distribution.wiring import PARALLEL_DOWNLOADS
from hythe_distribution.workers import Workers
from scripts.lab.images import ImageBuilder
from scripts.lab.registry import Registry

DEV_IMAGE_MIB = (55, 48, 40, 30, 15, 7)


class NoNames:
    """Names that are kept nowhere: only fetching is measured."""

    async def get(self, namespace: str, reference: object) -> NameRecord:
        """Say that there is no record."""
        return NameRecord(0, None)

    async def put(self, namespace: str, reference: object, target: Descriptor, if_revision: int) -> None:
        """Forget it."""


class NoFigures:
    """Figures that nobody reads."""

    def started(self) -> None:
        """Do nothing."""

    def ended(self, outcome: str, size_bytes: int, elapsed_s: float) -> None:
        """Do nothing."""

    def joined(self) -> None:
        """Do nothing."""

    def hit(self) -> None:
        """Do nothing."""

    def resumed(self, size_bytes: int) -> None:
        """Do nothing."""

    def retried(self) -> None:
        """Do nothing."""

    def parts(self, count: int) -> None:
        """Do nothing."""


async def with_hythe(reference: str, directory: Path, parallel: int) -> float:
    """Return the seconds of a pull into an empty store, without name and bus."""
    content, registry = DirectoryContent(directory), HttpRegistry()
    downloads, questions = Workers("download", parallel), Workers("question", 4)
    fetcher = Fetcher(registry, content, downloads, questions, NoFigures())
    resolver = Resolver(registry, content, questions)
    bringer = Bringer(fetcher, resolver, questions)
    referrers = Referrers(registry, resolver, questions)
    records = MemoryRecords()
    publisher = Publisher(content, records, questions, Library(content, records).publish)
    puller = Puller(resolver, bringer, referrers, content, publisher, NoNames(), None, questions)
    begun = time.perf_counter()
    await puller.pull("bench", Wish(parse_reference(reference)), lambda news: None)
    taken = time.perf_counter() - begun
    await fetcher.close()
    downloads.close()
    questions.close()
    registry.close()
    return taken


def bare(address: str, repository: str, digests: list[str], directory: Path, parallel: int) -> float:
    """Return the seconds of the floor for blobs given by their digests, the largest first."""
    directory.mkdir()

    def fetch(digest: str) -> None:
        connection = http.client.HTTPConnection(address)
        connection.request("GET", f"/v2/{repository}/blobs/{digest}")
        response = connection.getresponse()
        hasher, buffer, done, begun = hashlib.sha256(), memoryview(bytearray(1 << 20)), 0, 0
        with (directory / digest).open("wb", buffering=0) as file:
            while count := response.readinto(buffer):
                hasher.update(buffer[:count])
                file.write(buffer[:count])
                done += count
                if done - begun >= WRITEBACK_STEP_BYTES:
                    start_writeback(file.fileno(), begun, done - begun)
                    begun = done
            os.fsync(file.fileno())
        connection.close()
        assert f"sha256:{hasher.hexdigest()}" == digest

    begun = time.perf_counter()
    with ThreadPoolExecutor(parallel) as threads:
        list(threads.map(fetch, digests))
    return time.perf_counter() - begun


def measure(directory: Path, rounds: int, parallel: int, sizes_mib: list[int]) -> None:
    """Print medians and the ratio."""
    builder = ImageBuilder()
    for mib in sizes_mib:
        builder = builder.layer(os.urandom(mib << 20), "none")
    image = builder.build()
    digests = [layer.digest for layer in sorted(image.layers, key=lambda layer: -len(layer.data))]
    ours, floor = [], []
    with Registry(directory / "registry") as registry:
        reference = registry.push(image, "bench:1")
        for _ in range(rounds):
            os.sync()
            ours.append(asyncio.run(with_hythe(reference, directory / "content", parallel)))
            shutil.rmtree(directory / "content")
            os.sync()
            floor.append(bare(registry.address, "bench", digests, directory / "bare", parallel))
            shutil.rmtree(directory / "bare")
    total_mib, ours_s, floor_s = sum(sizes_mib), statistics.median(ours), statistics.median(floor)
    print(f"{total_mib} MiB in {len(sizes_mib)} layers, {parallel} at once, medians of {rounds}")
    print(f"hythe  {ours_s:.3f} s  {total_mib / ours_s:.0f} MiB/s  (best {min(ours):.3f} s)")
    print(f"floor  {floor_s:.3f} s  {total_mib / floor_s:.0f} MiB/s  (best {min(floor):.3f} s)")
    print(f"ratio  {ours_s / floor_s:.2f}")


def main() -> None:
    """Measure in a fresh directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--directory", type=Path, help="where to make the fresh directory; its disk is what is measured"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parallel", type=int, default=PARALLEL_DOWNLOADS)
    parser.add_argument("--mib", type=int, nargs="+", default=list(DEV_IMAGE_MIB), help="size of each layer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hythe-bench-", dir=arguments.directory) as directory:
        measure(Path(directory), arguments.rounds, arguments.parallel, arguments.mib)


if __name__ == "__main__":
    main()
