"""The metadata service's own Prometheus figures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from hythe.metrics import BUCKETS_S

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Figures:
    """What is counted of the store's commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "hythe_metadata_commit_seconds",
            "Duration of one commit of the metadata store, disk included.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._changes = Histogram(
            "hythe_metadata_commit_changes",
            "Changes that were made durable by one commit.",
            buckets=_BATCHES,
            registry=registry,
        )

    def committed(self, changes: int, seconds: float) -> None:
        """Count one commit; called from the store's thread."""
        self._seconds.observe(seconds)
        self._changes.observe(changes)
