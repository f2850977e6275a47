"""What a Redis store holds, to those who ask: each question is answered from one state of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hythe.clock import now_rfc3339
from hythe.errors import OutOfRange
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_link import Link
from hythe_metadata.changes import Moment
from hythe_metadata.overlay import IndexKey
from hythe_metadata.records import INTERNAL_KINDS, Change, Edge, Key, Stored

CHUNK = 500
EDGES_CHUNK = 2000
_STEP = "read metadata store"

Notice = Callable[[int, str], None]
"""Told of the revision and the mark of the state that an answer comes from."""


@dataclass(frozen=True, slots=True)
class News:
    """What changed since a revision: by revision what the log says, and where the store is now."""

    revision: int
    mark: str
    log: list[tuple[int, str]]


def _notice_nothing(revision: int, mark: str) -> None:
    pass


class RedisView:
    """Keeps the promises of `hythe_metadata.records.View` on one connection.

    A scan of more than `CHUNK` records is several questions; `edges` is one, however many there are.
    """

    def __init__(self, link: Link, store_id: str, era: int, notice: Notice = _notice_nothing) -> None:
        self._link = link
        self._store_id = store_id
        self._era = era
        self._notice = notice

    @property
    def moment(self) -> Moment:
        """See `hythe_metadata.records.View.moment`."""
        revision, _ = self.standing()
        return Moment(now_rfc3339(), revision + 1, self._era)

    def standing(self) -> tuple[int, str]:
        """Return the revision and the mark of the store now."""
        answer = self._ask("get", 0)
        return int(answer[0]), answer[1].decode()

    def get(self, key: Key) -> Stored | None:
        """See `hythe_metadata.records.View.get`."""
        return self.fetch([key], [])[0][key]

    def named(self, index: str, namespace: str, value: str) -> Key | None:
        """See `hythe_metadata.records.View.named`."""
        entry = index, namespace, value
        return self.fetch([], [entry])[1][entry]

    def fetch(
        self, records: Sequence[Key], entries: Sequence[IndexKey]
    ) -> tuple[dict[Key, Stored | None], dict[IndexKey, Key | None]]:
        """Return records and entries of unique indexes, all from one state."""
        texts = [*map(keys.key_text, records), *map(keys.index_text, entries)]
        answer = self._ask("get", len(records), *texts)[2:]
        found: dict[Key, Stored | None] = {}
        for place, key in enumerate(records):
            body, bulk = answer[2 * place : 2 * place + 2]
            found[key] = None if body is None else keys.stored_from(key, body.decode(), (bulk or b"").decode())
        holders = answer[2 * len(records) :]
        named = {
            entry: None if holder is None else keys.key_from(holder.decode())
            for entry, holder in zip(entries, holders, strict=True)
        }
        return found, named

    def scan(self, kind: str, namespace: str | None = None, after: str = "", prefix: str = "") -> Iterator[Stored]:
        """See `hythe_metadata.records.View.scan`."""
        first, last = scan_range(kind, namespace, after, prefix)
        more = True
        while more:
            _, _, again, lengths, data = self._ask("scan", first, last, CHUNK)
            parts = list(keys.unpacked(lengths, data))
            for at in range(0, len(parts), 3):
                stored = keys.stored_from(keys.key_from(parts[at]), parts[at + 1], parts[at + 2])
                if stored.key.name.startswith(prefix):
                    yield stored
            more = bool(again) and bool(parts)
            first = f"({parts[-3]}".encode() if parts else first

    def edges(self) -> Iterator[tuple[Key, Edge]]:
        """See `hythe_metadata.records.View.edges`."""
        while True:
            found = self._edges()
            if found is not None:
                break
        for key, text in found.items():
            record = keys.key_from(key)
            for edge in keys.edges_from(text):
                yield record, edge

    def _edges(self) -> dict[str, str] | None:
        """Return all references as they are at the end of the call, or None where too much changed meanwhile."""
        found: dict[str, str] = {}
        begun, cursor = -1, b"0"
        while begun < 0 or cursor != b"0":
            revision, _, cursor, data = self._ask("edges", cursor, EDGES_CHUNK)
            begun = int(revision) if begun < 0 else begun
            parts = keys.separated(data)
            found.update(zip(parts[::2], parts[1::2], strict=True))
        _, _, oldest, data = self._ask("since", begun)
        if oldest > begun:
            return None
        parts = keys.separated(data)
        for key, text in zip(parts[::2], parts[1::2], strict=True):
            if text:
                found[key] = text
            else:
                found.pop(key, None)
        return found

    def occupants(self, namespace: str) -> Mapping[str, int]:
        """See `hythe_metadata.records.View.occupants`."""
        _, _, flat = self._ask("occupants")
        counts: dict[str, int] = {}
        for place, count in zip(flat[::2], flat[1::2], strict=True):
            space, _, kind = place.decode().partition("\0")
            if space == namespace and kind not in INTERNAL_KINDS:
                counts[kind] = int(count)
        return counts

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `hythe_metadata.records.View.changes`."""
        found: list[Change] = []
        beyond = after
        while len(found) < limit:
            entries = self.log(beyond, limit)
            for revision, text in entries:
                if len(found) >= limit:
                    break
                found += keys.changes_from(revision, text)
            if len(entries) < limit:
                break
            beyond = entries[-1][0]
        return found

    def log(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the oldest revisions beyond `after` and what the log says of each.

        Raises:
            OutOfRange: some have been dropped from the log.
        """
        return self.news(after, limit).log

    def news(self, after: int, limit: int) -> News:
        """As `log`, with the state of the store that it comes from."""
        revision, mark, oldest, entries = self._ask("changes", after, max(limit, 1))
        if after < oldest:
            raise OutOfRange(
                f"read changes after revision {after}: the log begins after {oldest}",
                next_step="read everything again, then watch from there",
                details={"oldest": str(oldest)},
            )
        places = (keys.stream_fields(entry) for entry in entries)
        log = [(revision, fields[b"c"].decode()) for revision, fields in places]
        return News(int(revision), mark.decode(), log)

    def _ask(self, function: str, *arguments: str | bytes | int) -> list[Any]:
        call = self._link.call(function, self._store_id, *arguments, read_only=True)
        answer: list[Any] = self._link.question(_STEP, call)[0]
        self._notice(int(answer[0]), answer[1].decode())
        return answer


def scan_range(kind: str, namespace: str | None, after: str, prefix: str) -> tuple[bytes, bytes]:
    """Return the bounds of the keys of a scan, as Redis has them: ``[`` with, ``(`` without the bound itself."""
    if namespace is None:
        space, _, name = after.partition(" ")
        base = keys.joined(kind, "")
        first = b"(" + keys.joined(kind, space, name).encode() if after else b"[" + base.encode()
        return first, b"(" + base.encode()[:-1] + b"\1"
    base = keys.joined(kind, namespace, prefix)
    first = b"[" + base.encode()
    if after and keys.joined(kind, namespace, after) >= base:
        first = b"(" + keys.joined(kind, namespace, after).encode()
    return first, b"(" + base.encode() + b"\xff"
