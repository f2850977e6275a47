"""The port of the metadata store: records of any kind with revisions, references between them, changes and events.

A body knows nothing of what records mean. What a request does is a function of a `Transaction` (or of a `View`, for
questions), made by the module of its kind: ``store.change(images.put(origin, wish))``. So every decision is written once, and
holds on every body. Bodies: SQLite, Redis, memory; one contract suite (``tests/contract/test_record_store.py``) on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import Origin
from hythe_metadata.changes import Happening, Moment

MAX_RECORD_BYTES = 1 << 20
"""Most bytes of one record, body and bulk together; larger ones are refused."""
INTERNAL_KINDS = frozenset({"request", "gone", "gc"})
"""Kinds that a body keeps without a place in the log of changes, and that don't make a namespace less empty."""
NO_NAMESPACE = ""
"""Namespace of records that belong to none: namespaces themselves, hosts, networks, internal ones."""

T = TypeVar("T")
Work = Callable[["Transaction"], T]
Read = Callable[["View"], T]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which record: kind, namespace and its name (id, reference, digest …) there."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """That a record refers to something in its own namespace, which may be elsewhere or not exist.

    Attributes:
        kind: ``content``, ``image``, ``container``, ``ingest``, or ``snapshot/<snapshotter>``; of a back reference, which
            says that what is named refers to this record, ``back:`` and the kind.
        name: digest, reference, id, snapshot key.
        via: label or field that it comes from.
    """

    kind: str
    name: str
    via: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it is kept.

    Attributes:
        revision: of the store, at the last change of the record.
        body: JSON text, read whenever records are listed or filtered.
        bulk: text that only those read who answer the record whole, such as a container's spec.
    """

    key: Key
    revision: int
    body: str
    bulk: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the log of changes: which record was put, or deleted, at which revision."""

    revision: int
    key: Key
    deleted: bool = False


class View(Protocol):
    """What is stored, to those who only ask. On SQLite and in memory it is one state; on Redis each question has its own."""

    @property
    def moment(self) -> Moment:
        """Now, with the revision that this change has if it changes anything, and the era of the store."""

    def get(self, key: Key) -> Stored | None:
        """Return a record."""

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """Return the record that has `value` in a unique index (`Transaction.put`); by namespace, or `NO_NAMESPACE` for all."""

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """Yield the records of a kind by namespace and name; of one namespace those whose name comes after `after`.

        Args:
            namespace: None for all; then `after` is a namespace and a name, joined by a space.
            prefix: only names that begin with it.
        """

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """Yield all references of all records."""

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """Return how many records of each kind a namespace has; internal ones don't count."""

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Return the oldest entries of the log of changes beyond revision `after`; those of one revision come together.

        Raises:
            OutOfRange: entries beyond `after` have been dropped from the log (details ``oldest``).
        """


class Transaction(View, Protocol):
    """All that one request reads and changes, at once or not at all. It sees its own changes."""

    def put(
        self,
        key: Key,
        body: str,
        *,
        bulk: str = "",
        unique: Mapping[str, str] | None = None,
        everywhere: Mapping[str, str] | None = None,
        edges: Iterable[Edge] = (),
        keep_s: float = 0.0,
    ) -> None:
        """Write or replace a record with everything that belongs to it; what isn't given is gone.

        Args:
            unique: value by index, which no other record of the namespace may have there; `named` finds it.
            everywhere: the same, over all namespaces.
            edges: what the record refers to.
            keep_s: seconds of wall clock after which the store may forget the record by itself, silently; 0 for never.

        Raises:
            AlreadyExists: another record has one of the values.
            ResourceExhausted: it is larger than `MAX_RECORD_BYTES`.
        """

    def delete(self, key: Key) -> None:
        """Forget a record and what belongs to it; nothing happens if there is none."""

    def emit(self, origin: Origin, happening: Happening) -> None:
        """Store an event with the change."""


class RecordStore(Protocol):
    """The only writer of intent (ARCHITECTURE §7).

    Every method may raise Unavailable (the store is closed, away or held by another program), ResourceExhausted (its disk
    is full), FailedPrecondition (it can't be written) or DataLoss (what was read back isn't what was written).
    """

    @property
    def store_id(self) -> str:
        """Id of this store, 32 hex digits, made when it was created."""

    @property
    def era(self) -> int:
        """Raised whenever the store was restored from a copy; the higher part of every epoch."""

    async def change(self, work: Work[T]) -> T:
        """Carry out `work` in one transaction; its effect is durable, or nothing of it has happened, when this returns.

        `work` must be quick and touch nothing but the transaction: it may run more than once, in another thread, each
        time on what is stored then. Changes have an order, that of their revisions, which rise by one. Cancelling the
        wait doesn't undo it.

        Raises:
            HytheError: whatever `work` raises; then it has changed nothing. Also those of the class, where nothing has
                changed either but for an outcome that is ``unknown``.
        """

    async def read(self, read: Read[T]) -> T:
        """Return what `read` finds; it may run in another thread.

        Raises:
            HytheError: whatever `read` raises.
        """

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the event loop soon after each change, of other processes on the same store too; quick."""

    def on_turn(self, callback: Callable[[], None]) -> None:
        """Call `callback` within `outgoing` when this process has come to be the one that gets the events.

        Another may have sent some of those that it is about to get. Never called where no other process can.
        """

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`. With several processes on one store only one gets events at a time."""

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""

    async def close(self) -> None:
        """Carry out what was accepted, refuse the rest, give all files and connections back."""
