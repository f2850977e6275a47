"""A fetcher on an in-memory store and registry, with what a test looks at and turns."""

from __future__ import annotations

import asyncio

from hythe.errors import NotFound
from hythe.oci import Descriptor
from hythe.ports.content import Content
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.fetcher import BlobProgress, Fetcher, Rules
from hythe_distribution.hosts import Source
from hythe_distribution.workers import Workers
from tests.fakes.gated_registry import GatedRegistry
from tests.fixtures.waiting import eventually_async

SOURCE = Source("a.example", "app")
OTHER = Source("b.example", "app")
DATA = b"0123456789" * 1000
DOWNLOADS = 2
RULES = Rules(first_wait_s=0.001, parallel_from_bytes=50_000, part_bytes=5_000, stretch_bytes=20_000)


class Counts:
    """A body of `hythe_distribution.fetcher.Figures` that keeps what it is told."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.outcomes: list[str] = []
        self.size_bytes = 0
        self.joins = 0
        self.hits = 0
        self.resumed_bytes = 0
        self.retries = 0
        self.part_count = 0

    def started(self) -> None:
        """Count a download."""
        self.in_flight += 1

    def ended(self, outcome: str, size_bytes: int, elapsed_s: float) -> None:
        """Keep its outcome."""
        self.in_flight -= 1
        self.outcomes.append(outcome)
        self.size_bytes += size_bytes

    def joined(self) -> None:
        """Count a join."""
        self.joins += 1

    def hit(self) -> None:
        """Count a hit."""
        self.hits += 1

    def resumed(self, size_bytes: int) -> None:
        """Count what was not fetched again."""
        self.resumed_bytes += size_bytes

    def retried(self) -> None:
        """Count a retry."""
        self.retries += 1

    def parts(self, count: int) -> None:
        """Count parts."""
        self.part_count += count


class Bench:
    """A fetcher with all that it works with."""

    def __init__(self, content: Content | None = None, rules: Rules = RULES) -> None:
        self.registry = GatedRegistry()
        self.content = content or MemoryContent()
        self.counts = Counts()
        self.downloads = Workers("download", DOWNLOADS)
        self.questions = Workers("question", 2)
        self.fetcher = Fetcher(self.registry, self.content, self.downloads, self.questions, self.counts, rules)
        self.seen: list[BlobProgress] = []

    async def close(self) -> None:
        """Stop everything, and see that nothing is left running."""
        await self.fetcher.close()
        self.downloads.close()
        self.questions.close()
        assert self.counts.in_flight == 0
        assert self.registry.running == 0

    def hold(self) -> None:
        """Make downloads wait after their first chunk."""
        self.registry.gate.clear()

    def begin(self, descriptor: Descriptor, source: Source = SOURCE) -> asyncio.Task[int]:
        """Ask for a blob in a task."""
        return asyncio.create_task(self.fetcher.ensure(source, descriptor, self.seen.append))

    async def running(self, count: int = 1) -> None:
        """Wait until `count` downloads run."""

        async def reached() -> bool:
            return self.registry.running == count

        await eventually_async(reached, what=f"{count} downloads run")

    async def joined(self, count: int) -> None:
        """Wait until `count` callers have joined a download."""

        async def reached() -> bool:
            return self.counts.joins == count

        await eventually_async(reached, what=f"{count} callers join")

    def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob can be read."""
        try:
            return b"".join(self.content.read(descriptor.digest)) != b""
        except NotFound:
            return False
