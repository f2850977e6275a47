"""A batch of changes on its way into Redis: works are carried out on what is remembered and read, then sent as one command.

Several works want to read before they can decide. Each is stopped where something isn't known yet, what all of them lack
is read at once, and they begin again: a batch costs as many questions as its works have steps, not as many as there are works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hythe.clock import now_rfc3339
from hythe.ports.metadata import Origin
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_cache import Cache
from hythe_metadata.adapters.redis_view import RedisView
from hythe_metadata.changes import Happening, Moment
from hythe_metadata.overlay import IndexKey, Overlay
from hythe_metadata.records import Change, Edge, Key, Stored, Work

MAX_BYTES = 8 << 20
"""About how much one batch writes at most, unless a single work writes more."""
STEPS = 12
"""Most times that a work begins again; then it reads by itself what it needs."""


class Missing(BaseException):
    """A work needs something that isn't known yet. No `Exception`: works must not take it for a refusal."""

    def __init__(self, wanted: Key | IndexKey) -> None:
        super().__init__()
        self.wanted = wanted


class Stale(BaseException):
    """The store has changed since the batch was begun; no `Exception` either."""


class CachedView:
    """A `hythe_metadata.records.View` of the store at the mark that the cache has."""

    def __init__(self, cache: Cache, view: RedisView) -> None:
        self._cache = cache
        self._view = view
        self.gathering = False

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        return self._view.moment

    def get(self, key: Key) -> Stored | None:
        """See `hythe_metadata.records.View.get`."""
        if key not in self._cache.records:
            self._want(key)
        return self._cache.records[key]

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """See `hythe_metadata.records.View.named`."""
        entry = index, namespace, value
        if entry not in self._cache.index:
            self._want(entry)
        return self._cache.index[entry]

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """See `hythe_metadata.records.View.scan`."""
        return self._view.scan(kind, namespace, after, prefix)

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """See `hythe_metadata.records.View.edges`."""
        return self._view.edges()

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """See `hythe_metadata.records.View.occupants`."""
        return self._view.occupants(namespace)

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `hythe_metadata.records.View.changes`."""
        return self._view.changes(after, limit)

    def fetch(self, wanted: Iterable[Key | IndexKey]) -> None:
        """Read what is wanted in one question and remember it."""
        every = set(wanted)
        records = [want for want in every if isinstance(want, Key)]
        entries = [want for want in every if not isinstance(want, Key)]
        self._cache.learn(*self._view.fetch(records, entries))

    def _want(self, wanted: Key | IndexKey) -> None:
        if self.gathering:
            raise Missing(wanted)
        self.fetch([wanted])


@dataclass(slots=True)
class Task:
    """A work with what came of it."""

    work: Work[Any]
    result: Any = None
    error: Exception | None = None
    wrote: bool = False


class Batch:
    """What some works change together, each at once or not at all; nothing of it is in the store yet.

    Attributes:
        revision: that the store will have.
        changes: what is to be written.
        left: works that were not carried out.
    """

    def __init__(self, view: CachedView, revision: int, era: int) -> None:
        """Begin on the store at `revision`."""
        self._view = view
        self._era = era
        self._begun = revision
        self.revision = revision
        self.changes = Overlay(view, self._moment())
        self._log: list[tuple[int, str]] = []
        self._events: list[tuple[Origin, Happening, Moment]] = []
        self._bytes = 0
        self.left: list[Task] = []

    @property
    def wrote(self) -> bool:
        """Whether there is anything to write."""
        return self.revision > self._begun

    def run(self, tasks: Sequence[Task]) -> None:
        """Carry out works; one that raises changes nothing, and its error is kept with it.

        When the batch is large enough the rest of them is put into `left`.

        Raises:
            Stale: (a `BaseException`) from the view.
            HytheError: the store couldn't be read.
        """
        waiting = list(tasks)
        for _ in range(STEPS):
            if len(waiting) < 2:
                break
            self._view.gathering = True
            missing: set[Key | IndexKey] = set()
            rest: list[Task] = []
            for task in waiting:
                try:
                    self._carry_out(task)
                except Missing as lacks:
                    missing.add(lacks.wanted)
                    rest.append(task)
            self._view.gathering = False
            if missing:
                self._view.fetch(missing)
            waiting = rest
        self._view.gathering = False
        for task in waiting:
            self._carry_out(task)

    def arguments(self) -> list[str | int]:
        """Return the batch as the server's function takes it."""
        puts: list[str | int] = []
        deletes: list[str | int] = []
        for key, written in self.changes.changes_made.records.items():
            if written is None:
                deletes += (keys.key_text(key), keys.place_text(key))
                continue
            puts += (
                *(keys.key_text(key), keys.body_text(written.stored), written.stored.bulk),
                *(keys.index_texts(written.unique), keys.edges_text(written.edges), keys.place_text(key)),
                round(written.keep_s * 1000) if written.keep_s else "",
            )
        index = self.changes.taken.items()
        taken = [text for entry, key in index for text in (keys.index_text(entry), keys.key_text(key))]
        log: list[str | int] = [part for entry in self._log for part in entry]
        events = [
            text
            for origin, happening, moment in self._events
            for text in (keys.object_text(origin, happening), keys.event_text(origin, happening, moment.time))
        ]
        arguments: list[str | int] = [len(log) // 2, *log, len(puts) // 7, *puts, len(deletes) // 2, *deletes]
        arguments += [len(taken) // 2, *taken, len(events) // 2, *events]
        return arguments

    def _moment(self) -> Moment:
        return Moment(now_rfc3339(), self.revision + 1, self._era)

    def _carry_out(self, task: Task) -> None:
        if self._bytes > MAX_BYTES:
            self.left.append(task)
            return
        moment = self._moment()
        above = Overlay(self.changes, moment)
        task.result, task.error, task.wrote = None, None, False
        try:
            task.result = task.work(above)
            made = above.changes_made
            log = "\1".join(keys.change_text(key, deleted=written is None) for key, written in made.records.items())
            self._check_texts(above)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller who awaits this work, as at any endpoint
            task.error = error
            return
        if not made.records and not made.events:
            return
        task.wrote = True
        self.revision += 1
        self._log.append((self.revision, log))
        self._events += [(origin, happening, moment) for origin, happening in made.events]
        self.changes.absorb(above)

    def _check_texts(self, above: Overlay) -> None:
        """Refuse now what can't be written down, so that the others of the batch aren't taken along."""
        for written in above.changes_made.records.values():
            if written is not None:
                self._bytes += len(written.stored.body) + len(written.stored.bulk)
                self._bytes += len(keys.edges_text(written.edges))
        for entry in above.taken:
            keys.index_text(entry)
        for origin, happening in above.changes_made.events:
            keys.object_text(origin, happening)
