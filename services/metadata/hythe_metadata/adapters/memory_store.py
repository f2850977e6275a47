"""The metadata store in memory: for tests of what runs on a store, and the model that the durable bodies are compared with."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from hythe.clock import now_ns, now_rfc3339
from hythe.errors import OutOfRange, Unavailable
from hythe.identifiers import new_id
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import Origin
from hythe_metadata.changes import Happening, Moment
from hythe_metadata.overlay import IndexKey, Overlay, Written
from hythe_metadata.records import INTERNAL_KINDS, Change, Edge, Key, Read, Stored, Work

T = TypeVar("T")

KEPT_CHANGES = 100_000


class MemoryStore:
    """Keeps the promises of `hythe_metadata.records.RecordStore`, but for what survives the process: nothing."""

    def __init__(self, kept_changes: int = KEPT_CHANGES) -> None:
        self._store_id = new_id()
        self._records: dict[Key, Written] = {}
        self._forget_at_ns: dict[Key, int] = {}
        self._index: dict[IndexKey, Key] = {}
        self._log: list[Change] = []
        self._dropped = 0
        self._kept_changes = kept_changes
        self._revision = 0
        self._outbox: list[OutgoingEvent] = []
        self._sequence = 0
        self._numbers: Counter[tuple[str, str, str]] = Counter()
        self._callbacks: list[Callable[[], None]] = []
        self._closed = False

    @property
    def store_id(self) -> str:
        """See `hythe_metadata.records.RecordStore.store_id`."""
        return self._store_id

    @property
    def era(self) -> int:
        """See `hythe_metadata.records.RecordStore.era`."""
        return 1

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        return Moment(now_rfc3339(), self._revision + 1, self.era)

    async def change(self, work: Work[T]) -> T:
        """See `hythe_metadata.records.RecordStore.change`."""
        self._check_open()
        transaction = Overlay(self, self.moment)
        result = work(transaction)
        if transaction.changes_made.records or transaction.changes_made.events:
            self._apply(transaction)
            for callback in self._callbacks:
                callback()
        return result

    async def read(self, read: Read[T]) -> T:
        """See `hythe_metadata.records.RecordStore.read`."""
        self._check_open()
        return read(self)

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_change`."""
        self._callbacks.append(callback)

    def on_turn(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_turn`; there is never another process."""

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.events.EventSource.outgoing`."""
        return [event for event in self._outbox if event.sequence > after][:limit]

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.events.EventSource.sent`."""
        gone = frozenset(sequences)
        self._outbox = [event for event in self._outbox if event.sequence not in gone]

    async def close(self) -> None:
        """See `hythe_metadata.records.RecordStore.close`."""
        self._closed = True

    def get(self, key: Key) -> Stored | None:
        """See `hythe_metadata.records.View.get`."""
        written = self._records.get(key)
        return written.stored if written else None

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """See `hythe_metadata.records.View.named`."""
        return self._index.get((index, namespace, value))

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """See `hythe_metadata.records.View.scan`."""
        space, _, name = after.partition(" ") if namespace is None else (namespace, "", after)
        found = sorted(
            key
            for key in self._records
            if key.kind == kind
            and (namespace is None or key.namespace == namespace)
            and (not after or (key.namespace, key.name) > (space, name))
            and key.name.startswith(prefix)
        )
        return iter([self._records[key].stored for key in found])

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """See `hythe_metadata.records.View.edges`."""
        return iter([(key, edge) for key, written in self._records.items() for edge in written.edges])

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """See `hythe_metadata.records.View.occupants`."""
        kinds = (key.kind for key in self._records if key.namespace == namespace)
        return Counter(kind for kind in kinds if kind not in INTERNAL_KINDS)

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `hythe_metadata.records.View.changes`."""
        if after < self._dropped:
            raise OutOfRange(
                f"read changes after revision {after}: the log begins after {self._dropped}",
                next_step="read everything again, then watch from there",
                details={"oldest": str(self._dropped)},
            )
        first = bisect_right(self._log, after, key=lambda change: change.revision)
        found = self._log[first : first + limit]
        while (
            found
            and first + len(found) < len(self._log)
            and self._log[first + len(found)].revision == found[-1].revision
        ):
            found.append(self._log[first + len(found)])
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("use metadata store: it is closed", service="metadata")
        for key in [key for key, at_ns in self._forget_at_ns.items() if at_ns <= now_ns()]:
            self._remove(key)

    def _apply(self, transaction: Overlay) -> None:
        self._revision += 1
        for key in transaction.changes_made.records:
            self._remove(key)  # all before any is written: a value may go from one record to another
        for key, written in transaction.changes_made.records.items():
            if written is not None:
                self._records[key] = written
                self._index.update(dict.fromkeys(written.unique, key))
                if written.keep_s:
                    self._forget_at_ns[key] = now_ns() + int(written.keep_s * 1e9)
            if key.kind not in INTERNAL_KINDS:
                self._log.append(Change(self._revision, key, deleted=written is None))
        for origin, happening in transaction.changes_made.events:
            self._store_event(origin, happening, transaction.moment)
        while len(self._log) > self._kept_changes:
            self._dropped = self._log.pop(0).revision

    def _store_event(self, origin: Origin, happening: Happening, moment: Moment) -> None:
        counted = origin.namespace, happening.noun, happening.object_id
        self._numbers[counted] += 1
        self._sequence += 1
        self._outbox.append(
            OutgoingEvent(
                sequence=self._sequence,
                namespace=origin.namespace,
                noun=happening.noun,
                object_id=happening.object_id,
                past=happening.past,
                topic=happening.topic,
                number=self._numbers[counted],
                time=moment.time,
                caller=origin.caller,
                request_id=origin.request_id,
                trace_id=origin.trace_id,
                attributes=dict(happening.attributes),
            )
        )

    def _remove(self, key: Key) -> None:
        written = self._records.pop(key, None)
        self._forget_at_ns.pop(key, None)
        if written is not None:
            for entry in written.unique:
                self._index.pop(entry, None)
