"""What a crash or somebody who gave up has left: ingests that nobody goes on with, and bytes that no namespace sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from hythe.clock import boottime_ms, now_ns
from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound, Unavailable
from hythe.ports.content import Content, IngestStatus
from hythe_distribution.ledger import Ledger
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import Records
from hythe_distribution.watch import IN_USE, Unseen, Watch

IDLE_S = 86_400.0
"""How long nothing was written to an ingest before it counts as left."""
SHARED_UNSEEN_S = 86_400.0
"""How long no namespace has seen a blob of a shared store before it goes: other hosts may be about to publish it."""
FACT = "idle ingests"
HELD = "held"


@dataclass(frozen=True, slots=True)
class Named:
    """An ingest by its reference; one of no namespace is a download or import of the service itself."""

    namespace: str
    reference: str

    def __str__(self) -> str:
        return f"{self.namespace} {self.reference}"


@dataclass(frozen=True, slots=True)
class Idle:
    """How far an ingest was when it was looked at, and for how many milliseconds it was seen to be no further."""

    offset: int
    updated_ns: int
    idle_ms: int


def grown(before: Mapping[str, Idle], found: Collection[IngestStatus], passed_ms: int) -> dict[str, Idle]:
    """Return for how long each ingest has been idle, `passed_ms` after the last look; one that moved begins anew."""
    idle = {}
    for status in found:
        last = before.get(status.reference)
        same = last is not None and (last.offset, last.updated_ns) == (status.offset, status.updated_ns)
        seen_ms = last.idle_ms + passed_ms if last is not None and same else 0
        idle[status.reference] = Idle(status.offset, status.updated_ns, seen_ms)
    return idle


def is_left(idle: Idle, wall_ns: int) -> bool:
    """Tell whether nothing was written for a day: by what was observed, and by the wall clock, which alone may have jumped."""
    return idle.idle_ms >= IDLE_S * 1000 and wall_ns - idle.updated_ns >= IDLE_S * 1e9


def has_gone_unseen(unseen: Unseen, generation: int, now_ms: int, *, shared: bool) -> bool:
    """Tell whether bytes that no namespace sees may go: a collection before this one has found them so, too."""
    return unseen.generation < generation and (not shared or now_ms - unseen.since_ms >= SHARED_UNSEEN_S * 1000)


def named(reference: str) -> Named:
    """Return the namespace and the reference there of an ingest in the store that all namespaces share."""
    if reference.startswith("ns/"):
        namespace, _, rest = reference.removeprefix("ns/").partition("/")
        return Named(namespace, rest)
    return Named("", reference)


@dataclass(slots=True)
class Cleared:
    """What went, or would go. A blob that no namespace saw is named by a space and its digest."""

    removed: list[str]
    kept: dict[str, str]
    freed_bytes: int = 0


class Leftovers:
    """Finds and removes them; one call at a time. Every call blocks."""

    def __init__(
        self,
        library: Library,
        content: Content,
        records: Records,
        watch: Watch,
        let_go: Callable[[], None] = lambda: None,
        clock_ms: Callable[[], int] = boottime_ms,
        wall_ns: Callable[[], int] = now_ns,
    ) -> None:
        """Look past `watch` at `content` and `records`; `let_go` takes ingests from writers that are not heard of."""
        self._library = library
        self._content = content
        self._records = records
        self._watch = watch
        self._let_go = let_go
        self._clock_ms = clock_ms
        self._wall_ns = wall_ns
        self._looked_ms: int | None = None

    def ingests(self, keep: Collection[Named], *, carry_out: bool) -> Cleared:
        """Remove the ingests that were left and aren't in `keep`; without `carry_out` only say which."""
        self._let_go()
        cleared = Cleared([], {})
        idle = self._look()
        for reference in sorted(reference for reference, each in idle.items() if is_left(each, self._wall_ns())):
            ingest = named(reference)
            if ingest in keep:
                cleared.kept[str(ingest)] = "referred to here"
            elif self._abort(ingest, carry_out=carry_out):
                cleared.removed.append(str(ingest))
                cleared.freed_bytes += idle[reference].offset
            else:
                cleared.kept[str(ingest)] = HELD
        return cleared

    def unseen(self, generation: int, *, shared: bool, carry_out: bool) -> Cleared:
        """Remove bytes that no namespace has seen since an earlier collection of this process's life, and nobody has used.

        A crash between the end of a download and its publication leaves them, and one between the two halves of a removal.
        """
        cleared = Cleared([], {})
        found = self._records.unseen([blob.digest for blob in self._content.walk()])
        now_ms = self._clock_ms()
        for digest, unseen in self._watch.unseen(found).items():
            if not has_gone_unseen(unseen, generation, now_ms, shared=shared):
                continue
            with self._watch.taking((digest,)) as kept:
                freed_bytes = None if kept else self._remove(digest, carry_out=carry_out)
            if freed_bytes is None:
                cleared.kept[f" {digest}"] = kept.get(digest, IN_USE)
            else:
                cleared.removed.append(f" {digest}")
                cleared.freed_bytes += freed_bytes
        return cleared

    def _look(self) -> dict[str, Idle]:
        now_ms = self._clock_ms()
        passed_ms = 0 if self._looked_ms is None else now_ms - self._looked_ms
        self._looked_ms = now_ms
        before = _read(self._records.ledger)
        idle = grown(before, list(self._content.ingests()), passed_ms)
        if idle != before:
            texts = {reference: [each.offset, each.updated_ns, each.idle_ms] for reference, each in idle.items()}
            self._records.ledger.note(FACT, json.dumps(texts))
        return idle

    def _abort(self, ingest: Named, *, carry_out: bool) -> bool:
        """Remove an ingest, and tell whether it is gone, or would be."""
        if ingest.namespace and self._library.has_writer(ingest.namespace, ingest.reference):
            return False
        if not carry_out:
            return True
        try:
            if ingest.namespace:
                self._library.of(ingest.namespace).abort(ingest.reference)
            else:
                self._content.abort(ingest.reference)
        except NotFound:
            return True
        except (Unavailable, InvalidArgument):
            return False
        return True

    def _remove(self, digest: Digest, *, carry_out: bool) -> int | None:
        retention = self._library.retention
        try:
            if carry_out:
                return retention.remove_unseen(digest)
            return None if retention.is_held(digest) else self._content.info(digest).size_bytes
        except NotFound:
            return None


def _read(ledger: Ledger) -> dict[str, Idle]:
    """Return what was noted; what can't be read is looked at anew."""
    try:
        return {reference: Idle(*map(int, each)) for reference, each in json.loads(ledger.fact(FACT) or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
