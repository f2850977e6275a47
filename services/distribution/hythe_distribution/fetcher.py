"""One download per blob on this host, shared by all who wait for it, and stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, NotFound, Unavailable
from hythe.oci import Descriptor
from hythe.ports.content import MAX_CHUNK_BYTES, Content
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.hosts import Source
from hythe_distribution.registry import Registry
from hythe_distribution.workers import Workers

REPORT_INTERVAL_S = 0.1

BlobState = Literal["waiting", "fetching", "verifying", "fetched", "exists"]


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """Where one blob stands; `done_bytes` of `total_bytes` counts the work of `state`."""

    digest: Digest
    state: BlobState
    done_bytes: int
    total_bytes: int


Watch = Callable[[BlobProgress], None]


class Figures(Protocol):
    """What the fetcher tells the figures of its process."""

    def started(self) -> None:
        """A download begins."""

    def ended(self, outcome: str, size_bytes: int, elapsed_s: float) -> None:
        """A download has ended: ``ok``, ``cancelled`` or an error's code; `size_bytes` arrived and were verified."""

    def joined(self) -> None:
        """Somebody waits for a download that another has begun."""

    def hit(self) -> None:
        """A blob that was asked for is here already."""


class _Flight:
    """A download in progress."""

    def __init__(self, source: Source, descriptor: Descriptor) -> None:
        self.source = source
        self.descriptor = descriptor
        self.cancellation = Cancellation()
        self.watches: list[Watch] = []
        self.progress = BlobProgress(descriptor.digest, "waiting", 0, descriptor.size_bytes)
        self.task: asyncio.Task[HytheError | Cancelled | None]
        self._loop = asyncio.get_running_loop()
        self._reported_at = 0.0

    def report(self, state: BlobState, done_bytes: int) -> None:
        """Tell the watches from the working thread: each change of state, and bytes at most ten times a second."""
        now = time.monotonic()
        if state == self.progress.state and now - self._reported_at < REPORT_INTERVAL_S:
            return
        self._reported_at = now
        self.progress = replace(self.progress, state=state, done_bytes=done_bytes)
        self._loop.call_soon_threadsafe(self._tell, self.progress)

    def _tell(self, progress: BlobProgress) -> None:
        for watch in self.watches:
            watch(progress)


class Fetcher:
    """Brings blobs from registries into the content store."""

    def __init__(
        self, registry: Registry, content: Content, downloads: Workers, questions: Workers, figures: Figures
    ) -> None:
        """Fetch as many blobs at once as `downloads` has threads; what is asked of the store never waits for them."""
        self._registry = registry
        self._content = content
        self._downloads = downloads
        self._questions = questions
        self._figures = figures
        self._flights: dict[Digest, _Flight] = {}
        self._closed = False

    async def ensure(self, source: Source, descriptor: Descriptor, watch: Watch) -> int:
        """Return when the blob is in the content store, whole and verified.

        All who ask for one digest share one download. It goes on as long as one of them waits. Where it fails and was
        begun from another source than this one, this one is tried.

        Args:
            watch: called in the event loop with each change of state and, at most ten times a second, with bytes.

        Returns:
            Bytes that came over the network for it meanwhile: its size, or 0 if it was here.

        Raises:
            NotFound: the registry has no such blob.
            DataLoss: other bytes than the descriptor promises; nothing of them is kept.
            Unavailable: this process is stopping.
            HytheError: see `hythe_distribution.registry.Registry` and `hythe.ports.content.Content`.
        """
        while not self._closed:
            flight = self._flights.get(descriptor.digest)
            if flight is None and await self._questions.run(None, self._has, descriptor):
                self._figures.hit()
                watch(BlobProgress(descriptor.digest, "exists", descriptor.size_bytes, descriptor.size_bytes))
                return 0
            flight = self._flights.get(descriptor.digest)
            if flight is None:
                flight = self._launch(source, descriptor)
                outcome = await self._wait(flight, watch)
            else:
                self._figures.joined()
                with tracing.span("wait for blob", oci__digest=str(descriptor.digest)):
                    outcome = await self._wait(flight, watch)
            if outcome is None and flight.descriptor.size_bytes == descriptor.size_bytes:
                return descriptor.size_bytes
            same = flight.source == source and flight.descriptor.size_bytes == descriptor.size_bytes
            if isinstance(outcome, HytheError) and same:
                raise outcome
        raise Unavailable(f"fetch {descriptor.digest}: the service is stopping", outcome="unknown")

    async def close(self) -> None:
        """Stop all downloads and wait until none runs; nothing is fetched any more."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancellation.cancel()
        for flight in flights:
            await asyncio.wait([flight.task])

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

    def _launch(self, source: Source, descriptor: Descriptor) -> _Flight:
        flight = self._flights[descriptor.digest] = _Flight(source, descriptor)
        flight.task = asyncio.get_running_loop().create_task(
            self._fly(flight), name=f"fetch-{descriptor.digest.hex[:12]}"
        )
        return flight

    async def _wait(self, flight: _Flight, watch: Watch) -> HytheError | Cancelled | None:
        flight.watches.append(watch)
        watch(flight.progress)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.watches.remove(watch)
            if not flight.watches and not flight.task.done():
                flight.cancellation.cancel()

    async def _fly(self, flight: _Flight) -> HytheError | Cancelled | None:
        descriptor = flight.descriptor
        started = time.monotonic()
        code = "Internal"
        self._figures.started()
        try:
            with tracing.span(
                "fetch blob",
                oci__digest=str(descriptor.digest),
                oci__size_bytes=descriptor.size_bytes,
                registry__host=flight.source.host,
            ):
                await self._downloads.run(flight.cancellation, self._transfer, flight)
            code = "ok"
            return None
        except (HytheError, Cancelled) as error:
            if isinstance(error, Cancelled) or flight.cancellation.cancelled:
                code = "cancelled"
                return Cancelled()
            code = error.code
            return error
        finally:
            del self._flights[descriptor.digest]
            self._figures.ended(code, descriptor.size_bytes if code == "ok" else 0, time.monotonic() - started)

    def _transfer(self, flight: _Flight) -> None:
        descriptor, cancellation = flight.descriptor, flight.cancellation
        cancellation.check()
        if self._has(descriptor):
            return  # it came between the first look and this one
        flight.report("fetching", 0)
        with (
            self._registry.open(flight.source, descriptor, cancellation) as body,
            self._content.open_ingest(f"layer-{descriptor.digest}", total_bytes=descriptor.size_bytes) as ingest,
        ):
            buffer = memoryview(bytearray(min(MAX_CHUNK_BYTES, descriptor.size_bytes + 1)))
            while count := body.readinto(buffer):
                ingest.write(buffer[:count])
                cancellation.check()
                flight.report("fetching", ingest.offset)
            flight.report("verifying", 0)
            with tracing.span("verify and commit", oci__digest=str(descriptor.digest)):
                ingest.commit(descriptor.digest, descriptor.size_bytes)
        flight.report("fetched", descriptor.size_bytes)
