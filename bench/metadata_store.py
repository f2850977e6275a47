"""How many durable changes a second the metadata store makes, and how long one takes alone.

Run: ``python bench/metadata_store.py [--directory DIR] [--callers N] [--seconds S]``
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from hythe.identifiers import new_id
from hythe.ports.metadata import ContainerWish, Origin
from hythe_metadata import containers
from hythe_metadata.adapters.sqlite_store import SqliteStore
from hythe_metadata.lease_clock import LeaseClock

DIGEST = "sha256:" + "0" * 64
LEASES = LeaseClock()
SPEC = '{"args":["true"],"env":["A=1"],"network":"none","auto_remove":true,"labels":{}}'


async def change(store: SqliteStore) -> None:
    """Make one durable change: begin a container."""
    container_id = new_id()
    wish = ContainerWish(container_id, f"c-{container_id[:12]}", "localhost/busybox:latest", DIGEST, "h1", SPEC)
    await store.change(containers.begin(Origin("bench", "bench", container_id), wish, LEASES))


async def rate(store: SqliteStore, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Return changes a second, and the seconds that each took, with `callers` at once for `seconds`."""
    until = time.monotonic() + seconds
    taken: list[float] = []

    async def caller() -> None:
        while (begun := time.monotonic()) < until:
            await change(store)
            taken.append(time.monotonic() - begun)

    begun = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(taken) / (time.monotonic() - begun), taken


async def measure(directory: Path, callers: int, seconds: float) -> None:
    """Print the figures of one caller and of `callers` at once."""
    store = SqliteStore(directory / "metadata.db")
    try:
        await rate(store, 1, 0.2)
        for count in (1, callers):
            per_second, taken = await rate(store, count, seconds)
            cuts = statistics.quantiles(taken, n=100)
            print(
                f"{count:4} callers: {per_second:8.0f} durable changes/s   "
                f"p50 {cuts[49] * 1000:.2f} ms   p99 {cuts[98] * 1000:.2f} ms"
            )
    finally:
        await store.close()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where the store is made; a temporary directory by default")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        asyncio.run(measure(Path(directory), arguments.callers, arguments.seconds))


if __name__ == "__main__":
    main()
