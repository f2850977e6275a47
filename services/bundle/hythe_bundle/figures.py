"""The figures of unpacking, for ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PrometheusFigures:
    """A body of `hythe_bundle.unpacker.Figures`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "hythe_unpack_layer_seconds",
            "Applying one layer, from a free worker to its last file, by outcome.",
            ["outcome"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._bytes = Counter("hythe_unpacked_bytes", "Uncompressed bytes of layers applied.", registry=registry)

    def applied(self, outcome: str, archive_bytes: int, elapsed_s: float) -> None:
        """See `hythe_bundle.unpacker.Figures.applied`."""
        self._seconds.labels(outcome).observe(elapsed_s)
        self._bytes.inc(archive_bytes)
