"""All that a metadata store holds, in a form that no body of it owns: what a copy, and a comparison, is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hythe.errors import FailedPrecondition
from hythe.ports.events import OutgoingEvent
from hythe_metadata.overlay import IndexKey
from hythe_metadata.records import Edge, Stored


@dataclass(frozen=True, slots=True)
class Head:
    """What a store is.

    Attributes:
        revision: of its last change. A copy's log of changes begins there: who watches from there misses nothing.
        sequence: of the last event that came into its outbox.
    """

    store_id: str
    era: int
    revision: int
    sequence: int


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """A record with all that belongs to it, its references in order; `forget_at_ms` is wall clock since 1970, 0: never."""

    stored: Stored
    unique: frozenset[IndexKey]
    edges: tuple[Edge, ...]
    forget_at_ms: int


@dataclass(frozen=True, slots=True)
class NumberEntry:
    """The number of the last event of an object, and when it came, wall clock in ms since 1970."""

    namespace: str
    noun: str
    object_id: str
    last: int
    changed_ms: int


Entry = RecordEntry | NumberEntry | OutgoingEvent


_UNFINISHED = " (the copy is not finished)"


def unfinished(to: str) -> str:
    """Return what a store says of where it was moved while the copy is being made."""
    return to + _UNFINISHED


def moved(message: str, said: str) -> FailedPrecondition:
    """Return the error for a store that says it was moved; `message` is the step and the store."""
    to = said.removesuffix(_UNFINISHED)
    undo = "`hythe metadata unmove` makes this one usable again, as it was left"
    if to != said:
        return FailedPrecondition(
            f"{message}: a copy of it to {to} was begun and is not finished",
            next_step=f"if that copy doesn't run any more: {undo}; empty the other place, then copy again",
            details={"moved_to": to},
        )
    return FailedPrecondition(
        f"{message}: it was moved to {to}",
        next_step=f"set HYTHE_METADATA_URL to {to}; {undo}, without what was changed at the new place",
        details={"moved_to": to},
    )


class Source(Protocol):
    """A store that nobody uses, to be read whole; for one caller at a time. Raises what its body's store raises."""

    def hold(self, to: str) -> Head:
        """Refuse all use from now on, naming `to` as where the records go, and return what the store is.

        Raises:
            FailedPrecondition, Unavailable: somebody uses it.
            FailedPrecondition: it was moved.
        """

    def finish(self, to: str) -> None:
        """Say for good that the records are at `to`."""

    def release(self) -> None:
        """Take back what `hold` or `finish` did."""

    def entries(self) -> Iterator[Entry]:
        """Yield records by kind, namespace and name, then numbers by object, then events by sequence.

        Raises:
            DataLoss: a record, its names, references or counts don't agree.
        """

    def close(self) -> None:
        """Give files and connections back; what `hold` did stays."""


class Target(Protocol):
    """A place without a store, to be filled. Raises what its body's store raises."""

    def check_empty(self) -> None:
        """See that nothing is there.

        Raises:
            FailedPrecondition: something is.
        """

    def fill(self, head: Head, entries: Iterable[Entry]) -> None:
        """Write a store; until all of it is durable there is none that could be opened."""

    def head(self) -> Head:
        """Return what was written."""

    def entries(self) -> Iterator[Entry]:
        """Yield what was written, as `Source.entries` does."""

    def clear(self) -> None:
        """Remove what `fill` wrote."""

    def close(self) -> None:
        """Give files and connections back."""
