"""This service as an owner in garbage collection: what it tells of its blobs, and which of them it lets go.

Nothing is locked between the steps of a collection: from ``begin`` on it is noted what is used, and that stays.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import FailedPrecondition, NotFound
from hythe.gc_trust import UNKNOWN, StoreMark
from hythe_distribution.leftovers import HELD, Leftovers, Named
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import BlobChange, Records
from hythe_distribution.trusting import Trustee
from hythe_distribution.watch import Watch

NOT_HERE = "not here"
BATCH = 32
"""So many blobs are taken out at once; who looks for one of them waits for all."""
SWEEP_S = 10.0
"""After that long a sweep tells where to go on."""
PAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether sweeps of a store are carried out; `reason` says why not.

    Attributes:
        instance: what its sweeps have to name: each life of the process has another for each metadata store.
        shared: id of a content store that other hosts share.
    """

    instance: str
    trusted: bool
    reason: str
    shared: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, or would do; see `hythe.wire.gc.GcSwept`."""

    removed: tuple[str, ...]
    kept: Mapping[str, str] = field(hash=False)
    freed_bytes: int
    carried_out: bool
    next: str = ""


class Collector:
    """Answers the one who collects. Every call blocks; safe for several threads."""

    def __init__(
        self,
        library: Library,
        records: Records,
        watch: Watch,
        trustee: Trustee,
        leftovers: Leftovers,
        instance: str,
    ) -> None:
        """Look past `watch` at `records`; `instance` is this life of the process."""
        self._library = library
        self._records = records
        self._watch = watch
        self._trustee = trustee
        self._leftovers = leftovers
        self._instance = instance
        self._lock = threading.RLock()
        self._begun: tuple[int, Begun] | None = None

    def begin(self, mark: StoreMark) -> Begun:
        """Begin a collection: what is used from now on stays, and one that was begun before is over, also in mid-sweep."""
        with self._lock:
            self._begun = None
            reason = self._trustee.hear(mark)
            begun = Begun(self._instance_for(mark.store_id), not reason, reason, self._trustee.shared())
            self._watch.begin(mark.generation)
            self._begun = (mark.generation, begun)
            return begun

    def trust(self, mark: StoreMark) -> None:
        """Let sweeps of a store be carried out from now on, also in its collection that has begun."""
        with self._lock:
            self._trustee.confirm(mark)
            if self._begun is not None:
                generation, begun = self._begun
                trusted = begun.instance == self._instance_for(mark.store_id)
                self._begun = (generation, replace(begun, trusted=trusted, reason="" if trusted else UNKNOWN))

    def changes(self, after: int, limit: int) -> tuple[Sequence[BlobChange], bool]:
        """Return what changed beyond `after`, and whether there is more of it.

        Raises:
            OutOfRange: see `Records.changes`.
        """
        found = self._records.changes(after, limit)
        page: list[BlobChange] = []
        size_bytes = 0
        for change in found:
            size_bytes += 256 + sum(len(key) + len(value) + 8 for key, value in change.labels.items())
            if page and size_bytes > PAGE_BYTES:
                return page, True
            page.append(change)
        return page, len(found) == limit

    def sweep(
        self, generation: int, instance: str, namespace: str, digests: Sequence[Digest], *, dry_run: bool
    ) -> Swept:
        """Take blobs out of a namespace which nothing there refers to; what is used here, or was since the begin, stays.

        A crash in the middle of it loses nothing that is seen, and what bytes it leaves go with a later collection.

        Raises:
            FailedPrecondition: that collection isn't the one that has begun in this life of the process, or another one has
                begun meanwhile: what was taken out until then is out.
        """
        begun = self._check(generation, instance)
        wanted = tuple(dict.fromkeys(digests))
        with tracing.span("sweep content", hythe__namespace=namespace, hythe__blobs=len(wanted)) as span:
            if dry_run or not begun.trusted:
                return self._forecast(namespace, wanted)
            removed: list[str] = []
            kept: dict[str, str] = {}
            freed_bytes, until_s, following = 0, time.monotonic() + SWEEP_S, ""
            for start in range(0, len(wanted), BATCH):
                if time.monotonic() > until_s:
                    following = str(wanted[start])
                    break
                batch = wanted[start : start + BATCH]
                with self._lock:
                    self._check(generation, instance)
                    gone, stays = self._take_out(namespace, batch)
                removed += [str(digest) for digest in gone]
                kept.update((str(digest), reason) for digest, reason in stays.items())
                freed_bytes += sum(gone.values())
            span.set("hythe.freed_bytes", freed_bytes)
            return Swept(tuple(removed), kept, freed_bytes, True, following)

    def sweep_leftovers(self, generation: int, instance: str, keep: Collection[Named], *, dry_run: bool) -> Swept:
        """Remove ingests that were left and aren't in `keep`, and bytes that no namespace sees.

        Raises:
            FailedPrecondition: as for `sweep`.
        """
        begun = self._check(generation, instance)
        carry_out = begun.trusted and not dry_run
        with self._lock, tracing.span("sweep leftovers"):
            ingests = self._leftovers.ingests(keep, carry_out=carry_out)
            unseen = self._leftovers.unseen(generation, shared=bool(begun.shared), carry_out=carry_out)
        return Swept(
            (*ingests.removed, *unseen.removed),
            {**ingests.kept, **unseen.kept},
            ingests.freed_bytes + unseen.freed_bytes,
            carry_out,
        )

    def _instance_for(self, store_id: str) -> str:
        return hashlib.sha256(f"{self._instance} {store_id}".encode()).hexdigest()[:32]

    def _take_out(self, namespace: str, batch: Sequence[Digest]) -> tuple[Mapping[Digest, int], Mapping[Digest, str]]:
        """Take out what nobody uses: return the bytes that each gave back, and why the others stay."""
        with self._watch.taking(batch) as used:
            taken = self._library.retention.take_out(namespace, [digest for digest in batch if digest not in used])
        stays = dict(used)
        for digest in batch:
            if digest not in taken.gone and digest not in used:
                stays[digest] = HELD if digest in taken.held else NOT_HERE
        return taken.gone, stays

    def _check(self, generation: int, instance: str) -> Begun:
        with self._lock:
            if self._begun is None or (generation, instance) != (self._begun[0], self._begun[1].instance):
                raise FailedPrecondition(
                    f"sweep of collection {generation}: it hasn't begun in this life of the distribution service",
                    cause="the service was started anew, or another collection has begun",
                    next_step="the next collection makes up for it",
                )
            return self._begun[1]

    def _forecast(self, namespace: str, digests: Sequence[Digest]) -> Swept:
        removed: list[str] = []
        kept: dict[str, str] = {}
        freed_bytes = 0
        for digest in digests:
            reason = self._watch.reason(digest) or (HELD if self._library.retention.is_held(digest) else "")
            if not reason:
                try:
                    freed_bytes += self._library.retention.would_free(namespace, digest)
                    removed.append(str(digest))
                    continue
                except NotFound:
                    reason = NOT_HERE
            kept[str(digest)] = reason
        return Swept(tuple(removed), kept, freed_bytes, False)
