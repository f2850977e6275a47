"""One collection, from its generation to its report.

Owners begin to note what is used; metadata learns what they have, reads its graph, marks; owners mark theirs; then what nothing
refers to goes. Whatever was referred to before it was asked for is either in the graph or noted by its owner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hythe import tracing
from hythe.clock import now_ns
from hythe.gc_trust import StoreMark
from hythe_metadata import generations, leases
from hythe_metadata.gc import learning, parties, reading, snapshots
from hythe_metadata.gc.graph import Marking
from hythe_metadata.gc.owners import Owners
from hythe_metadata.gc.reading import Reading
from hythe_metadata.gc.report import Item, Report
from hythe_metadata.gc.sweeping import Sweeper
from hythe_metadata.gc.turns import turn
from hythe_metadata.lease_clock import LeaseClock, StepWatch
from hythe_metadata.lease_records import KIND as LEASE
from hythe_metadata.lease_records import LeaseRecord, expired
from hythe_metadata.records import RecordStore, Transaction

SUSPENDED_S = 120.0
"""For so long after a step of the wall clock nothing is swept; longer than any lease of an operation."""
_FORGET = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What kind of collection: one that only tells what would go; one whose store is trusted from now on."""

    dry_run: bool = False
    confirm: bool = False


class Collector:
    """Collects for one metadata process."""

    def __init__(
        self,
        store: RecordStore,
        owners: Owners,
        clock: LeaseClock,
        steps: StepWatch,
        process: str,
        wall_ns: Callable[[], int] = now_ns,
    ) -> None:
        """`process` is the id of this process; `clock` the one that its leases of a duration end by, `wall_ns` the others'."""
        self._store = store
        self._owners = owners
        self._clock = clock
        self._steps = steps
        self._process = process
        self._wall_ns = wall_ns

    def ended(self, lease: LeaseRecord) -> bool:
        """Tell whether a lease keeps nothing any more."""
        return expired(lease, self._clock, self._wall_ns)

    async def collect(self, wish: Wish, headers: Mapping[str, str] | None = None, wait_s: float = 0.0) -> Report:
        """Carry out one collection, when it is this process's turn; owners that don't answer are passed over.

        It is a trace of its own, or part of the one that `headers` carry.

        Raises:
            Unavailable: another process has had the turn for `wait_s` seconds.
            HytheError: of the store.
        """
        async with turn(self._store, self._clock, self._process, wait_s):
            with tracing.span("collect garbage", parent=headers, hythe__dry_run=wish.dry_run) as span:
                started_s = time.monotonic()
                report = await self._collect(wish)
                report.total_ms = (time.monotonic() - started_s) * 1000
                span.set("hythe.generation", report.generation)
                span.set("hythe.removed", report.removed)
                span.set("hythe.freed_bytes", report.freed_bytes)
        log.info(
            "collected garbage",
            extra={
                "generation": report.generation,
                "removed": report.removed,
                "freed_bytes": report.freed_bytes,
                "dry_run": report.dry_run,
                "suspended": report.suspended,
            },
        )
        return report

    async def _collect(self, wish: Wish) -> Report:
        self._steps.suspended_s(SUSPENDED_S)
        mark = await self._store.change(self._begun)
        report = Report(mark.generation, wish.dry_run)
        hosts = await self._store.read(parties.known_hosts)
        present = await parties.begin(self._owners, self._store, hosts, mark, confirm=wish.confirm)
        report.owners = [party.report for party in present.all()]
        known = await learning.learn_all(self._owners, self._store, present)
        with tracing.span("gc read"):
            found = await self._store.read(reading.reading(self.ended))
        report.revision, report.suspended = found.revision, self._suspended()
        dry_run = wish.dry_run or bool(report.suspended)
        with tracing.span("gc mark", hythe__nodes=len(found.graph), hythe__edges=found.graph.edges):
            started_s = time.monotonic()
            marking = await asyncio.to_thread(found.marking)
            report.mark_ms = (time.monotonic() - started_s) * 1000
        await self._end_leases(found, marking, report, dry_run=dry_run)
        await snapshots.mark_everywhere(self._owners, present, marking, mark.generation)
        report.nodes = len(found.graph)
        sweeper = Sweeper(self._owners, self._store, present, found, marking, known, report, dry_run)
        await sweeper.snapshots()
        await sweeper.content()
        await sweeper.ingests()
        if not dry_run:
            await learning.forget_removed(self._store, present)
        for party in present.all():
            if dry_run and party.there and party.report.state == "swept":
                party.report.state = "suspended" if report.suspended else "dry run"
                party.report.reason = report.suspended
        return report

    def _begun(self, transaction: Transaction) -> StoreMark:
        generation = generations.begin(transaction)
        store = self._store
        return StoreMark(store.store_id, store.era, transaction.moment.revision, generation, self._process)

    def _suspended(self) -> str:
        """Return why nothing may be swept now: somebody has set the wall clock, and what ended by it may not have ended."""
        left_s, by_s = self._steps.suspended_s(SUSPENDED_S)
        if left_s <= 0:
            return ""
        return f"the wall clock was set {abs(by_s):.0f} s {'ahead' if by_s > 0 else 'back'}; for {left_s:.0f} s more"

    async def _end_leases(self, found: Reading, marking: Marking, report: Report, *, dry_run: bool) -> None:
        """Delete leases that have ended before anything that they kept goes; one that was renewed since keeps it."""
        gone: list[LeaseRecord] = list(found.ended) if dry_run else []
        if not dry_run:
            for start in range(0, len(found.ended), _FORGET):
                gone += await self._store.change(leases.forget(found.ended[start : start + _FORGET]))
        report.leases = len(gone)
        deleted = {(lease.namespace, lease.id) for lease in gone}
        for lease in found.ended:
            if (lease.namespace, lease.id) in deleted:
                report.note(Item(LEASE, lease.id, lease.namespace))
            else:
                number = found.graph.node(LEASE, lease.namespace, lease.id)
                (marking.keep if lease.flat else marking.reach)(
                    [target for target, _ in found.graph.references(number)]
                )
