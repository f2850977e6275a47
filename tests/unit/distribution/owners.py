"""An owner of content in memory, with clocks that the test moves."""

from __future__ import annotations

from hythe.digest import Digest, digest_of
from hythe.gc_trust import StoreMark
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.trust_local import LocalTrust
from hythe_distribution.collecting import Collector
from hythe_distribution.leftovers import Leftovers, Named
from hythe_distribution.namespace_store import Library
from hythe_distribution.trusting import Trustee
from hythe_distribution.watch import Watch
from hythe_distribution.watched import WatchedContent

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)


class Clocks:
    """CLOCK_BOOTTIME and the wall clock, moved by the test."""

    def __init__(self) -> None:
        self.boot_ms, self.wall_ns = 1_000, 1_000_000_000_000_000_000

    def pass_by(self, milliseconds: int) -> None:
        """Let time go by for both."""
        self.boot_ms += milliseconds
        self.wall_ns += milliseconds * 1_000_000


class Owner:
    """An owner in memory that trusts its store."""

    def __init__(self, *, shared: str = "") -> None:
        self.clocks = Clocks()
        self.content, self.records = MemoryContent(), MemoryRecords()
        self.records.ledger.note("virgin", "1")
        self.shared = shared
        self.generation, self.instance = 0, ""
        self.start()

    def start(self) -> None:
        """Become another process over the same store."""
        self.watch = Watch(lambda: self.clocks.boot_ms)
        self.seen = WatchedContent(self.content, self.watch)
        self.library = Library(self.content, self.records, self.watch)
        self.leftovers = Leftovers(
            self.library,
            self.content,
            self.records,
            self.watch,
            clock_ms=lambda: self.clocks.boot_ms,
            wall_ns=lambda: self.clocks.wall_ns,
        )
        trustee = Trustee(_Shared(LocalTrust(self.records.ledger), self.shared))
        self.collector = Collector(self.library, self.records, self.watch, trustee, self.leftovers, "a process")

    def begin(self) -> None:
        """Begin the next collection."""
        self.generation += 1
        self.instance = self.collector.begin(StoreMark("a" * 32, 1, 1, self.generation)).instance

    def sweep(self, *digests: Digest) -> dict[str, str]:
        """Sweep blobs of the default namespace, and return why some stayed."""
        return dict(self.collector.sweep(self.generation, self.instance, "default", digests, dry_run=False).kept)

    def clear(self, *keep: Named, dry_run: bool = False) -> list[str]:
        """Collect what was left, and return what went."""
        self.begin()
        return list(self.collector.sweep_leftovers(self.generation, self.instance, keep, dry_run=dry_run).removed)

    def put(self, data: bytes = DATA, namespace: str = "default") -> Digest:
        """Store a blob that a namespace sees."""
        with self.library.of(namespace).open_ingest(f"put-{digest_of(data)}") as ingest:
            ingest.write(data)
            return ingest.commit().digest

    def put_unseen(self, data: bytes = DATA) -> Digest:
        """Store a blob that no namespace sees, as a crash before its publication leaves it."""
        with self.content.open_ingest("unseen") as ingest:
            ingest.write(data)
            return ingest.commit().digest


class _Shared:
    """A `TrustPlace` of a store that other hosts share."""

    def __init__(self, place: LocalTrust, shared: str) -> None:
        self.virgin, self.load, self.save = place.virgin, place.load, place.save
        self._shared = shared

    def shared(self) -> str:
        """Return the id of the store."""
        return self._shared
