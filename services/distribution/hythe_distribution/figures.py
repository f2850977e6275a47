"""The figures of fetching, for ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class PrometheusFigures:
    """A body of `hythe_distribution.fetcher.Figures`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._in_flight = Gauge("hythe_fetches_in_flight", "Blob downloads in progress.", registry=registry)
        self._seconds = Histogram(
            "hythe_fetch_seconds",
            "Blob downloads from begin to verified and durable, by outcome.",
            ["outcome"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._bytes = Counter("hythe_fetched_bytes", "Bytes of blobs fetched and verified.", registry=registry)
        self._joined = Counter(
            "hythe_fetch_joined", "Requests for a blob that waited for a download begun by another.", registry=registry
        )
        self._resumed = Counter(
            "hythe_fetch_resumed_bytes",
            "Bytes of blobs that an earlier download had left, so that they were not fetched again.",
            registry=registry,
        )
        self._retries = Counter(
            "hythe_fetch_retries", "Downloads gone on with after their connection broke or stalled.", registry=registry
        )
        self._parts = Counter(
            "hythe_fetch_parts", "Parts of large blobs asked for over spare connections.", registry=registry
        )
        self._hits = Counter("hythe_fetch_hits", "Requests for a blob that was here already.", registry=registry)

    def started(self) -> None:
        """See `hythe_distribution.fetcher.Figures.started`."""
        self._in_flight.inc()

    def ended(self, outcome: str, size_bytes: int, elapsed_s: float) -> None:
        """See `hythe_distribution.fetcher.Figures.ended`."""
        self._in_flight.dec()
        self._seconds.labels(outcome).observe(elapsed_s)
        self._bytes.inc(size_bytes)

    def joined(self) -> None:
        """See `hythe_distribution.fetcher.Figures.joined`."""
        self._joined.inc()

    def resumed(self, size_bytes: int) -> None:
        """See `hythe_distribution.transfer.Figures.resumed`."""
        self._resumed.inc(size_bytes)

    def retried(self) -> None:
        """See `hythe_distribution.transfer.Figures.retried`."""
        self._retries.inc()

    def parts(self, count: int) -> None:
        """See `hythe_distribution.transfer.Figures.parts`."""
        self._parts.inc(count)

    def hit(self) -> None:
        """See `hythe_distribution.fetcher.Figures.hit`."""
        self._hits.inc()
