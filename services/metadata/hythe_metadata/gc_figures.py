"""Prometheus figures of garbage collection."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hythe_metadata.gc.report import Report

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class GcFigures:
    """What is counted of collections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._collections = Counter(
            "hythe_metadata_gc_collections",
            "Collections by outcome: done, dry run, suspended, failed.",
            ["outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "hythe_metadata_gc_seconds",
            "Duration of one collection, all owners included.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._mark_seconds = Histogram(
            "hythe_metadata_gc_mark_seconds",
            "Duration of the mark of one collection.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._removed = Counter("hythe_metadata_gc_removed", "What collections removed.", registry=registry)
        self._freed = Counter("hythe_metadata_gc_freed_bytes", "Bytes that collections freed.", registry=registry)
        self._suspended = Gauge(
            "hythe_metadata_gc_suspended",
            "1 while nothing is swept because somebody has set the wall clock.",
            registry=registry,
        )
        self._owners = Gauge(
            "hythe_metadata_gc_owners",
            "Owners by what became of them in the last collection.",
            ["state"],
            registry=registry,
        )

    def noted(self, report: Report | None, seconds: float) -> None:
        """Count a collection; None for one that failed."""
        if report is None:
            self._collections.labels("failed").inc()
            return
        outcome = "dry run" if report.dry_run else "suspended" if report.suspended else "done"
        self._collections.labels(outcome).inc()
        self._seconds.observe(seconds)
        self._mark_seconds.observe(report.mark_ms / 1000)
        self._suspended.set(bool(report.suspended))
        self._owners.clear()
        for owner in report.owners:
            self._owners.labels(owner.state).inc()
        if outcome == "done":
            self._removed.inc(report.removed)
            self._freed.inc(report.freed_bytes)
