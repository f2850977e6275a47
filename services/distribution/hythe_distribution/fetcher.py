"""One download per blob on this host, shared by all who wait for it, and stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, FailedPrecondition, HytheError, NotFound, OutOfRange, Unavailable
from hythe.oci import Descriptor
from hythe.oci.media_types import is_foreign
from hythe.ports.content import Content
from hythe_distribution import transfer
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.flight import BlobProgress, BlobState, Flight, Origin, Outcome, Watch
from hythe_distribution.follower import Follower
from hythe_distribution.hosts import Source
from hythe_distribution.parts import Open, Spares
from hythe_distribution.registry import Body, Registry
from hythe_distribution.transfer import Rules
from hythe_distribution.workers import Workers

__all__ = ["BlobProgress", "BlobState", "Fetcher", "Figures", "Follower", "Rules", "Watch"]


class Figures(transfer.Figures, Protocol):
    """What the fetcher tells the figures of its process."""

    def started(self) -> None:
        """A download begins."""

    def ended(self, outcome: str, size_bytes: int, elapsed_s: float) -> None:
        """A download has ended: ``ok``, ``cancelled`` or an error's code; `size_bytes` came now and were verified."""

    def joined(self) -> None:
        """Somebody waits for a download that another has begun."""

    def hit(self) -> None:
        """A blob that was asked for is here already."""


class Fetcher:
    """Brings blobs from registries into the content store."""

    def __init__(
        self,
        registry: Registry,
        content: Content,
        downloads: Workers,
        questions: Workers,
        figures: Figures,
        rules: Rules = Rules(),  # noqa: B008 (frozen)
    ) -> None:
        """Fetch as many blobs at once as `downloads` has threads; what is asked of the store never waits for them."""
        self._registry = registry
        self._content = content
        self._downloads = downloads
        self._questions = questions
        self._figures = figures
        self._rules = rules
        self._spares = Spares(rules.spare_parts, rules.part_bytes)
        self._flights: dict[Digest, Flight] = {}
        self._closed = False

    async def ensure(self, source: Source, descriptor: Descriptor, watch: Watch, *, foreign: bool = False) -> int:
        """Return when the blob is in the content store, whole and verified.

        All who ask for one digest share one download. It goes on as long as one of them waits or follows. Where it fails
        and was begun from another source than this one, this one is tried, from the last byte on.

        Args:
            watch: called in the event loop with each change of state and, at most ten times a second, with bytes.
            foreign: fetch a foreign layer that names URLs from these, without credentials.

        Returns:
            How many of its bytes came over the network meanwhile; what was here before doesn't count.

        Raises:
            FailedPrecondition: a foreign layer that names URLs, without `foreign`, and it isn't here.
            NotFound: the registry has no such blob.
            DataLoss: other bytes than the descriptor promises; nothing of them is kept.
            Unavailable: this process is stopping.
            HytheError: see `hythe_distribution.registry.Registry` and `hythe.ports.content.Content`.
        """
        origin = Origin(source, descriptor.urls if is_foreign(descriptor.media_type) else ())
        received_bytes = 0
        while not self._closed:
            looks = bool(origin.urls) or descriptor.digest not in self._flights
            if looks and await self._questions.run(None, self._has, descriptor):
                self._figures.hit()
                watch(BlobProgress(descriptor.digest, "exists", descriptor.size_bytes, descriptor.size_bytes))
                return min(received_bytes, descriptor.size_bytes)
            if origin.urls and not foreign:
                raise _refused(descriptor)
            flight = self._flights.get(descriptor.digest)
            if flight is None:
                flight = self._launch(origin, descriptor)
                outcome = await flight.wait(watch)
            else:
                self._figures.joined()
                with tracing.span("wait for blob", oci__digest=str(descriptor.digest)):
                    outcome = await flight.wait(watch)
            received_bytes += flight.received_bytes
            if outcome is None and flight.descriptor.size_bytes == descriptor.size_bytes:
                return min(received_bytes, descriptor.size_bytes)
            same = flight.origin == origin and flight.descriptor.size_bytes == descriptor.size_bytes
            if isinstance(outcome, HytheError) and same:
                raise outcome
        raise Unavailable(f"fetch {descriptor.digest}: the service is stopping", outcome="unknown")

    def follow(self, digest: Digest, offset: int = 0) -> Follower | None:
        """Return a reader of a blob that is being fetched now, from byte `offset` on; None if it isn't. From any thread.

        The download goes on until the reader is closed, even if nobody else waits for it.

        Raises:
            OutOfRange: `offset` is negative or lies beyond the blob's promised end.
        """
        flight = self._flights.get(digest)
        if flight is None:
            return None
        if not 0 <= offset <= flight.descriptor.size_bytes:
            raise OutOfRange(f"read {digest} while it comes: byte {offset} of {flight.descriptor.size_bytes}")
        return Follower(flight, self._content, offset) if flight.join() else None

    async def close(self) -> None:
        """Stop all downloads and wait until none runs; nothing is fetched any more."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancellation.cancel()
        for flight in flights:
            await asyncio.wait([flight.task])
        self._spares.close()

    def _has(self, descriptor: Descriptor) -> bool:
        try:
            found = self._content.info(descriptor.digest)
        except NotFound:
            return False
        if found.size_bytes != descriptor.size_bytes:
            raise DataLoss(
                f"fetch {descriptor.digest}: its descriptor says {descriptor.size_bytes} bytes, it has {found.size_bytes}"
            )
        return True

    def _launch(self, origin: Origin, descriptor: Descriptor) -> Flight:
        flight = self._flights[descriptor.digest] = Flight(origin, descriptor)
        flight.task = asyncio.get_running_loop().create_task(
            self._fly(flight), name=f"fetch-{descriptor.digest.hex[:12]}"
        )
        return flight

    async def _fly(self, flight: Flight) -> Outcome:
        descriptor = flight.descriptor
        started = time.monotonic()
        code = "Internal"
        outcome: Outcome = Cancelled()
        self._figures.started()
        try:
            with tracing.span(
                "fetch blob",
                oci__digest=str(descriptor.digest),
                oci__size_bytes=descriptor.size_bytes,
                registry__host=flight.origin.source.host,
            ) as span:
                await self._downloads.run(flight.cancellation, self._transfer, flight, span)
            code, outcome = "ok", None
        except (HytheError, Cancelled) as error:
            code = "cancelled"
            if isinstance(error, HytheError) and not flight.cancellation.cancelled:
                code, outcome = error.code, error
        finally:
            flight.land(outcome)
            del self._flights[descriptor.digest]
            received_bytes = flight.received_bytes if code == "ok" else 0
            self._figures.ended(code, received_bytes, time.monotonic() - started)
        return outcome

    def _transfer(self, flight: Flight, span: tracing.Span) -> None:
        flight.cancellation.check()
        if self._has(flight.descriptor):
            return  # it came between the first look and this one
        transfer.transfer(flight, self._opener(flight), self._content, self._spares, self._rules, self._figures, span)

    def _opener(self, flight: Flight) -> Open:
        descriptor, source = flight.descriptor, flight.origin.source

        def from_registry(offset: int, length: int | None, cancellation: Cancellation) -> Body:
            return self._registry.open(source, descriptor, cancellation, offset=offset, length=length)

        def from_urls(offset: int, length: int | None, cancellation: Cancellation) -> Body:
            return self._registry.open_foreign(descriptor, cancellation, offset=offset)

        return from_urls if flight.origin.urls else from_registry


def _refused(descriptor: Descriptor) -> FailedPrecondition:
    return FailedPrecondition(
        f"fetch {descriptor.digest}: it is a foreign layer, which lies outside the registry",
        cause=f"its manifest names {len(descriptor.urls)} URLs",
        next_step="to have it fetched from there without credentials, use --foreign-layers fetch",
        details={"kind": "foreign layer"},
    )
