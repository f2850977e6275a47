"""A transaction as changes laid over what is stored: what bodies without transactions of their own are made with."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hythe.errors import AlreadyExists, ResourceExhausted
from hythe.ports.metadata import Origin
from hythe_metadata.changes import Happening, Moment
from hythe_metadata.records import INTERNAL_KINDS, MAX_RECORD_BYTES, NO_NAMESPACE, Change, Edge, Key, Stored, View

IndexKey = tuple[str, str, str]
"""Index, namespace (`NO_NAMESPACE` for all), value."""


@dataclass(frozen=True, slots=True)
class Written:
    """A record with everything that belongs to it, as it is to be stored."""

    stored: Stored
    unique: frozenset[IndexKey]
    edges: tuple[Edge, ...]
    keep_s: float


@dataclass(slots=True)
class Changes:
    """What a transaction changes: a record to be written by key, None where it is to be deleted."""

    records: dict[Key, Written | None] = field(default_factory=dict)
    events: list[tuple[Origin, Happening]] = field(default_factory=list)


class Overlay:
    """Keeps the promises of `hythe_metadata.records.Transaction` over a `View`, which it leaves as it is.

    The view may be another overlay, which then absorbs this one, or doesn't: a savepoint.
    """

    def __init__(self, base: View, moment: Moment) -> None:
        self._base = base
        self._moment = moment
        self._index: dict[IndexKey, Key] = {}
        self.changes_made = Changes()

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        return self._moment

    def get(self, key: Key) -> Stored | None:
        """See `hythe_metadata.records.View.get`."""
        if key in self.changes_made.records:
            written = self.changes_made.records[key]
            return written.stored if written else None
        return self._base.get(key)

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """See `hythe_metadata.records.View.named`."""
        holder = self._index.get((index, namespace, value))
        if holder is None:
            holder = self._base.named(index, namespace, value)
            if holder in self.changes_made.records:
                return None  # it was written or deleted here, and has given this value up
        return holder

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """See `hythe_metadata.records.View.scan`."""
        changed = self.changes_made.records
        own = sorted(
            (
                written.stored
                for key, written in changed.items()
                if written and _wanted(key, kind, namespace, after, prefix)
            ),
            key=_place,
        )
        below = (stored for stored in self._base.scan(kind, namespace, after, prefix) if stored.key not in changed)
        return heapq.merge(own, below, key=_place)

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """See `hythe_metadata.records.View.edges`."""
        changed = self.changes_made.records
        yield from ((key, edge) for key, edge in self._base.edges() if key not in changed)
        yield from ((key, edge) for key, written in changed.items() if written for edge in written.edges)

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """See `hythe_metadata.records.View.occupants`."""
        counts = dict(self._base.occupants(namespace))
        for key, written in self.changes_made.records.items():
            if key.namespace == namespace and key.kind not in INTERNAL_KINDS:
                change = (written is not None) - (self._base.get(key) is not None)
                counts[key.kind] = counts.get(key.kind, 0) + change
        return {kind: count for kind, count in counts.items() if count}

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `hythe_metadata.records.View.changes`; the transaction's own aren't among them."""
        return self._base.changes(after, limit)

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
        """See `hythe_metadata.records.Transaction.put`."""
        check_size(key, body, bulk)
        entries = index_keys(key, unique, everywhere)
        for entry in entries:
            check_free(entry, key, self.named(*entry))
        self._drop_index(key)
        self._index.update(dict.fromkeys(entries, key))
        stored = Stored(key, self._moment.revision, body, bulk)
        self.changes_made.records[key] = Written(stored, entries, tuple(dict.fromkeys(edges)), keep_s)

    def delete(self, key: Key) -> None:
        """See `hythe_metadata.records.Transaction.delete`."""
        if self.get(key) is None:
            return
        self._drop_index(key)
        self.changes_made.records[key] = None

    def emit(self, origin: Origin, happening: Happening) -> None:
        """See `hythe_metadata.records.Transaction.emit`."""
        self.changes_made.events.append((origin, happening))

    @property
    def taken(self) -> Mapping[IndexKey, Key]:
        """Entries of unique indexes that records have which are to be written; all others of those records are free."""
        return self._index

    def absorb(self, above: Overlay) -> None:
        """Take over what `above`, an overlay over this one, changes; its events come after those here."""
        for key in above.changes_made.records:
            self._drop_index(key)
        self.changes_made.records.update(above.changes_made.records)
        self.changes_made.events += above.changes_made.events
        self._index.update(above.taken)

    def _drop_index(self, key: Key) -> None:
        written = self.changes_made.records.get(key)
        if written is not None:
            for entry in written.unique:
                self._index.pop(entry, None)


def index_keys(key: Key, unique: Mapping[str, str] | None, everywhere: Mapping[str, str] | None) -> frozenset[IndexKey]:
    """Return the entries of a record in unique indexes."""
    return frozenset(
        {
            *((index, key.namespace, value) for index, value in (unique or {}).items()),
            *((index, NO_NAMESPACE, value) for index, value in (everywhere or {}).items()),
        }
    )


def check_size(key: Key, body: str, bulk: str) -> None:
    """Refuse a record that is too large.

    Raises:
        ResourceExhausted: it is.
    """
    size = len(body.encode()) + len(bulk.encode())
    if size > MAX_RECORD_BYTES:
        raise ResourceExhausted(
            f"write {key.kind} {key.name[:100]}: {size} bytes are more than the {MAX_RECORD_BYTES} that a record may have",
            next_step="give it less: fewer or shorter labels, environment variables, arguments or resources",
            details={"kind": key.kind, "size_bytes": str(size)},
        )


def check_free(entry: IndexKey, key: Key, holder: Key | None) -> None:
    """Refuse an entry that another record has.

    Raises:
        AlreadyExists: it has.
    """
    if holder is not None and holder != key:
        index, _, value = entry
        raise AlreadyExists(
            f"write {key.kind} {key.name[:100]}: {value!r} is taken in {index}",
            details={"kind": holder.kind, "id": holder.name},
        )


def _wanted(key: Key, kind: str, namespace: str | None, after: str, prefix: str) -> bool:
    if key.kind != kind or not key.name.startswith(prefix):
        return False
    if namespace is None:
        space, _, name = after.partition(" ")
        return not after or (key.namespace, key.name) > (space, name)
    return key.namespace == namespace and key.name > after


def _place(stored: Stored) -> tuple[str, str]:
    return stored.key.namespace, stored.key.name
