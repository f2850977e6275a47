"""Sweeping: what isn't marked is taken out at its owners, and only then forgotten in metadata.

Nothing is locked meanwhile. An owner keeps what was used since the collection began, and metadata what was changed or leased
since it was read.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hythe import tracing
from hythe_metadata import contents
from hythe_metadata.gc.graph import Marking
from hythe_metadata.gc.owners import MOST_ROOTS, PAGE, Owners, Sweep, Swept
from hythe_metadata.gc.parties import Parties, Party
from hythe_metadata.gc.reading import Reading
from hythe_metadata.gc.report import Item, Report
from hythe_metadata.records import Key, Read, RecordStore, Transaction, View, Work

INGEST = "ingest"
NOT_HERE = "not here"
FORGET = 200
"""Records that are changed in one transaction, so that no writer waits long."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A blob that nothing refers to, as metadata knows it."""

    key: Key
    size_bytes: int
    holders: frozenset[str]


@dataclass(slots=True)
class Sweeper:
    """The last part of a collection.

    Attributes:
        known: up to which sequence what each holder has was known when it was read.
        dry_run: nothing is removed, owners only tell what would go.
    """

    owners: Owners
    store: RecordStore
    parties: Parties
    reading: Reading
    marking: Marking
    known: Mapping[str, int]
    report: Report
    dry_run: bool

    async def snapshots(self) -> None:
        """Sweep the snapshots of all hosts at once."""
        await asyncio.gather(*(self._snapshots(party) for party in self.parties.bundle.values() if party.there))

    async def _snapshots(self, party: Party) -> None:
        sweep, after = self._sweep(party), ""
        with tracing.span("gc sweep snapshots", hythe__host=party.host), party.asked():
            while True:
                swept = await self.owners.sweep_snapshots(party.host, sweep, after)
                self._count(party, sweep, swept, [Item("snapshot", name) for name in swept.removed])
                after = swept.next
                if not after:
                    return

    async def content(self) -> None:
        """Sweep content, page by page: first at all its holders, then what is known of it here."""
        for holder, kept in self._kept_holders().items():
            for party in self.parties.sharers(holder):
                if party.report.state != "untrusted":
                    party.report.fail("kept", kept)
        unmarked = [number for number in self.reading.blobs if not self.marking.stays(number)]
        graph = self.reading.graph
        nodes = sorted(graph.at(number) for number in unmarked)
        keys = [Key(node.kind, node.namespace, node.name) for node in nodes]
        for start in range(0, len(keys), PAGE):
            await self._page(keys[start : start + PAGE])

    def _kept_holders(self) -> dict[str, str]:
        reasons = {holder: self.parties.keeps_content(holder) for holder in self.known}
        return {holder: reason for holder, reason in reasons.items() if reason}

    async def _page(self, keys: Sequence[Key]) -> None:
        candidates = await self.store.read(_candidates(keys, self.reading.revision))
        gone: dict[str, list[Key]] = {}
        lists: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
        for candidate in candidates:
            for holder in candidate.holders:
                lists[holder][candidate.key.namespace].append(candidate)
        for holder in sorted(lists):
            if holder in self.known and not self.parties.keeps_content(holder):
                gone[holder] = [
                    key
                    for namespace, listed in lists[holder].items()
                    for key in await self._holder(holder, namespace, listed)
                ]
        if not self.dry_run:
            await self._forget([candidate.key for candidate in candidates], gone)

    async def _holder(self, holder: str, namespace: str, candidates: Sequence[Candidate]) -> list[Key]:
        """Sweep blobs of a namespace at one holder; return those that it doesn't have any more.

        Of a store that several hosts share, one removes what none of the others has used since the collection began.
        """
        sharers = self.parties.sharers(holder)
        sizes = {candidate.key.name: candidate.size_bytes for candidate in candidates}
        wanted = list(sizes)
        for party in sharers[1:]:
            asking = Sweep(self.report.generation, self._sweep(party).instance, dry_run=True)
            _, kept = await self._sweep_at(party, asking, namespace, wanted, None)
            wanted = [digest for digest in wanted if kept.get(digest, NOT_HERE) == NOT_HERE]
        if not sharers or self.parties.keeps_content(holder) or not wanted:
            return []
        sweep = self._sweep(sharers[0])
        removed, kept = await self._sweep_at(sharers[0], sweep, namespace, wanted, sizes)
        if sweep.dry_run:
            return []
        absent = [digest for digest, reason in kept.items() if reason == NOT_HERE and digest in sizes]
        return [Key(contents.KIND, namespace, digest) for digest in (*removed, *absent)]

    async def _sweep_at(
        self, party: Party, sweep: Sweep, namespace: str, digests: Sequence[str], sizes: Mapping[str, int] | None
    ) -> tuple[list[str], dict[str, str]]:
        """Return what is gone, and why the rest stays; with `sizes` it is counted and listed."""
        removed: list[str] = []
        kept: dict[str, str] = {}
        rest = list(digests)
        with tracing.span("gc sweep content", hythe__host=party.host, hythe__blobs=len(rest)), party.asked():
            while rest:
                swept = await self.owners.sweep_content(party.host, sweep, namespace, rest)
                removed += swept.removed
                kept.update(swept.kept)
                if sizes is not None:
                    items = [Item(contents.KIND, digest, namespace, sizes.get(digest, 0)) for digest in swept.removed]
                    self._count(party, sweep, swept, items)
                rest = rest[rest.index(swept.next) :] if swept.next in rest[1:] else []
        return removed, kept

    async def _forget(self, keys: Sequence[Key], gone: Mapping[str, Sequence[Key]]) -> None:
        holders: dict[Key, list[str]] = {key: [] for key in keys}
        for holder, its in gone.items():
            for key in its:
                holders[key].append(holder)
        for start in range(0, len(keys), FORGET):
            part = {key: holders[key] for key in keys[start : start + FORGET]}
            await self.store.change(_forgotten(part, self.known, self.reading.revision))

    async def ingests(self) -> None:
        """Sweep ingests that were left, but for those that leases keep."""
        nodes = [self.reading.graph.at(number) for number in self.reading.graph.of_kind(INGEST)
                 if self.marking.stays(number)]  # fmt: skip
        keep = [(node.namespace, node.name) for node in nodes]
        if len(keep) > MOST_ROOTS:
            return
        parties = [party for host, party in self.parties.distribution.items()
                   if party.there and not self.parties.keeps_content(self.parties.holder(host))]  # fmt: skip
        await asyncio.gather(*(self._ingests(party, keep) for party in parties))

    async def _ingests(self, party: Party, keep: Sequence[tuple[str, str]]) -> None:
        with tracing.span("gc sweep ingests", hythe__host=party.host), party.asked():
            sweep = self._sweep(party)
            swept = await self.owners.sweep_ingests(party.host, sweep, keep)
            names = [name.partition(" ") for name in swept.removed]
            self._count(party, sweep, swept, [Item(INGEST, reference, namespace) for namespace, _, reference in names])

    def _count(self, party: Party, sweep: Sweep, swept: Swept, items: Sequence[Item]) -> None:
        """Count what a sweep did at its owner, and in the whole unless it was one that should remove and didn't."""
        party.report.add(swept)
        if sweep.dry_run == self.dry_run:
            self.report.freed_bytes += swept.freed_bytes
            for item in items:
                self.report.note(item)

    def _sweep(self, party: Party) -> Sweep:
        return party.sweep(self.report.generation, dry_run=self.dry_run)


def _candidates(keys: Sequence[Key], revision: int) -> Read[list[Candidate]]:
    """Return what reads blobs that nothing referred to at `revision`, but for those that were changed since."""

    def read(view: View) -> list[Candidate]:
        found = []
        for key in keys:
            stored = view.get(key)
            if stored is not None and stored.revision <= revision:
                hint = contents.read(stored)
                found.append(Candidate(key, hint.size_bytes, frozenset(hint.holders)))
        return found

    return read


def _forgotten(gone: Mapping[Key, Sequence[str]], known: Mapping[str, int], revision: int) -> Work[None]:
    """Note who holds blobs no more, and forget those that nobody holds, unless they were changed since `revision`."""

    def work(transaction: Transaction) -> None:
        unchanged = [key for key in gone if (stored := transaction.get(key)) and stored.revision <= revision]
        for holder in sorted({holder for holders in gone.values() for holder in holders}):
            contents.unhold(holder, [key for key, holders in gone.items() if holder in holders], known[holder])(
                transaction
            )
        contents.forget(unchanged, transaction.moment.revision)(transaction)

    return work
