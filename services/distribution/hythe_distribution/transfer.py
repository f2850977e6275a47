"""The bytes of one blob on their way from a registry into the store: where to go on, what to repeat, what to ask for ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hythe import tracing
from hythe.errors import DataLoss, HytheError, Unavailable
from hythe.ports.content import MAX_CHUNK_BYTES, Content, Ingest
from hythe_distribution.blame import naming
from hythe_distribution.flight import Flight
from hythe_distribution.parts import Ahead, Open, Spares
from hythe_distribution.registry import Body


@dataclass(frozen=True, slots=True)
class Rules:
    """When a transfer repeats, and when it asks for several parts at once.

    Attributes:
        tries: so many requests in a row without a byte of progress end it.
        first_wait_s, most_wait_s: pause before a further request; it doubles from the first to the most.
        parallel_from_bytes: blobs with less to fetch come over one connection.
        part_bytes: what is asked for over a spare connection at once.
        spare_parts: how many spare connections there are while one download runs, each with a part in memory.
        stretch_bytes: what is asked for at once while no spare connection is free.
    """

    tries: int = 5
    first_wait_s: float = 0.1
    most_wait_s: float = 5.0
    parallel_from_bytes: int = 32 << 20
    part_bytes: int = 4 << 20
    spare_parts: int = 4
    stretch_bytes: int = 64 << 20

    def wait_s(self, idle_tries: int) -> float:
        """Return the pause in seconds after so many requests in a row that brought nothing; 0 for one that broke later."""
        return min(self.most_wait_s, self.first_wait_s * 2.0 ** max(0, idle_tries - 1))


class Figures(Protocol):
    """What a transfer tells the figures of its process."""

    def resumed(self, size_bytes: int) -> None:
        """So many bytes had been left by an earlier one, and are not fetched again."""

    def retried(self) -> None:
        """A connection broke or stalled, and it goes on with another."""

    def parts(self, count: int) -> None:
        """So many parts are asked for over spare connections."""


def transfer(
    flight: Flight,
    open_body: Open,
    content: Content,
    spares: Spares,
    rules: Rules,
    figures: Figures,
    span: tracing.Span,
) -> None:
    """Return when the blob is in the store. What an earlier transfer has left of it is gone on with.

    Where bytes of an earlier transfer or from several answers turn out wrong, all is fetched once more from the first byte
    on: it is not known whose fault they are.

    Raises:
        DataLoss: other bytes than promised; nothing of them is kept.
        Unavailable: the registry cannot be reached, or gives nothing any more; what has come is kept.
        Cancelled: the flight was given up; what has come is kept.
        HytheError: see `hythe_distribution.registry.Registry.open` and `hythe.ports.content.Content`.
    """
    with spares.shared(), naming(f"fetch {flight.descriptor.digest} from {flight.origin}"):
        first = _Attempt(flight, open_body, spares, rules, figures, span)
        try:
            first.run(_open_ingest(content, flight))
            return
        except DataLoss as error:
            if not first.doubtful:
                raise
            span.event("begun anew", error__message=error.whole)
        again = _Attempt(flight, open_body, spares, rules, figures, span)
        again.run(content.open_ingest(_reference(flight), total_bytes=flight.descriptor.size_bytes))


def _reference(flight: Flight) -> str:
    return f"layer-{flight.descriptor.digest}"


def _open_ingest(content: Content, flight: Flight) -> Ingest:
    total_bytes = flight.descriptor.size_bytes
    try:
        return content.open_ingest(_reference(flight), total_bytes=total_bytes, resume=True)
    except DataLoss as error:
        if error.details.get("kind") == "disk":
            raise
        return content.open_ingest(_reference(flight), total_bytes=total_bytes)  # what was left can't become this blob


class _Attempt:
    """One go at a blob, from the bytes that its ingest holds to the commit.

    Attributes:
        doubtful: the commit found wrong bytes, and they had come from more than one answer.
    """

    def __init__(
        self, flight: Flight, open_body: Open, spares: Spares, rules: Rules, figures: Figures, span: tracing.Span
    ) -> None:
        self.doubtful = False
        self._flight = flight
        self._open_body = open_body
        self._rules = rules
        self._figures = figures
        self._span = span
        self._size_bytes = flight.descriptor.size_bytes
        self._buffer = memoryview(bytearray(min(MAX_CHUNK_BYTES, self._size_bytes + 1)))
        self._ahead = Ahead(spares, open_body, self._size_bytes, flight.cancellation)
        self._ranges = not flight.origin.urls
        self._answered = False
        self._resumed = False
        self._retries = 0
        self._ingest: Ingest

    def run(self, ingest: Ingest) -> None:
        """Fill `ingest` and make it a blob; it is closed in any case."""
        flight = self._flight
        try:
            with ingest:
                self._ingest = ingest
                self._begin(ingest.offset)
                self._fill()
                flight.report("verifying", 0)
                with tracing.span("verify and commit", oci__digest=str(flight.descriptor.digest)):
                    self._commit()
        finally:
            flight.end_writing()
        flight.report("fetched", self._size_bytes)

    def _begin(self, offset: int) -> None:
        self._flight.write_to(self._ingest)
        self._flight.report("fetching", offset)
        if offset:
            self._resumed = True
            self._span.set("fetch.resumed_bytes", offset)
            self._figures.resumed(offset)

    def _commit(self) -> None:
        try:
            self._ingest.commit(self._flight.descriptor.digest, self._size_bytes)
        except DataLoss as error:
            self.doubtful = (self._resumed or self._retries > 0) and error.details.get("kind") != "disk"
            raise

    def _fill(self) -> None:
        """Bring all bytes that are missing, or all that the registry says there are."""
        idle_tries = 0
        more = True
        try:
            while more and (offset := self._ingest.offset) < self._size_bytes:
                try:
                    more = self._go_on(offset)
                except Unavailable as error:
                    idle_tries = 0 if self._ingest.offset > offset else idle_tries + 1
                    if not self._answered or idle_tries == self._rules.tries:
                        raise
                    self._retry(error, idle_tries)
        finally:
            self._ahead.close()
            if self._ahead.count:
                self._span.set("fetch.parts", self._ahead.count)

    def _retry(self, error: HytheError, idle_tries: int) -> None:
        self._retries += 1
        self._figures.retried()
        self._span.set("fetch.retries", self._retries)
        self._span.event("retry", fetch__offset=self._ingest.offset, error__message=error.whole)
        self._flight.cancellation.wait(self._rules.wait_s(idle_tries))

    def _go_on(self, offset: int) -> bool:
        """Take the part that was fetched ahead for `offset`, else ask for what begins there; False: the blob ends there."""
        if self._ahead.start > offset:
            return self._stream(offset)
        self._ahead.drain(self._take)
        self._flight.cancellation.check()
        if self._ranges:
            self._spread(self._size_bytes)
        return True

    def _stream(self, offset: int) -> bool:
        end = self._end_of_request(offset)
        length = end - offset if end < self._size_bytes or self._parallel(offset) else None
        with self._open_body(offset, length, self._flight.cancellation) as body:
            self._answered = True
            if not body.ranged:
                self._ranges = False
                self._ahead.close()
                end = self._size_bytes
            elif length is not None and self._ranges:
                self._spread(end)
            self._skip(body, offset)
            self._read(body, end)
            if self._ingest.offset >= end:
                return True
            if body.ranged:
                missing = end - self._ingest.offset
                raise Unavailable(f"fetch {self._flight.descriptor.digest}: an answer ended {missing} bytes too early")
            return False

    def _parallel(self, offset: int) -> bool:
        return self._ranges and self._size_bytes - offset >= self._rules.parallel_from_bytes

    def _end_of_request(self, offset: int) -> int:
        """Return how far to ask at once: to what is being fetched ahead, or so far that spare connections can help."""
        if not self._parallel(offset) or self._ahead.start < self._size_bytes:
            return self._ahead.start
        step = self._rules.part_bytes if self._ahead.possible else self._rules.stretch_bytes
        return min(self._size_bytes, offset + step)

    def _spread(self, after: int) -> None:
        begun = self._ahead.spread(after)
        if begun:
            self._figures.parts(begun)

    def _skip(self, body: Body, offset: int) -> None:
        """Read past what comes before `offset` where the server knows no ranges."""
        if body.offset > offset:
            digest = self._flight.descriptor.digest
            raise DataLoss(f"fetch {digest}: asked for byte {offset}, the answer begins with byte {body.offset}")
        skip_bytes = offset - body.offset
        while skip_bytes and (count := body.readinto(self._buffer[:skip_bytes])):
            self._flight.cancellation.check()
            skip_bytes -= count

    def _read(self, body: Body, end: int) -> None:
        """Take what comes up to `end`; at the end of the blob ask for a byte more, which must not be there."""
        limit = end + 1 if end == self._size_bytes else end
        while (room := limit - self._ingest.offset) and (count := body.readinto(self._buffer[:room])):
            self._take(self._buffer[:count])

    def _take(self, data: memoryview) -> None:
        self._ingest.write(data)
        self._flight.received_bytes += len(data)
        self._flight.advance(self._ingest.offset)
        self._flight.report("fetching", self._ingest.offset)
        self._flight.cancellation.check()
