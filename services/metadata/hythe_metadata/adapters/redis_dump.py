"""A store in Redis as a whole: read for a copy, or filled from one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from hythe.clock import ns_of
from hythe.errors import DataLoss, FailedPrecondition
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import Origin
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_link import Command, Link
from hythe_metadata.adapters.redis_server import check_server
from hythe_metadata.adapters.redis_store import connection_name, open_place
from hythe_metadata.adapters.store_url import RedisPlace
from hythe_metadata.dump import Entry, Head, NumberEntry, RecordEntry, unfinished
from hythe_metadata.overlay import IndexKey
from hythe_metadata.records import Key

CHUNK = 500
_STEP = "copy metadata store"


class RedisDump:
    """Keeps the promises of `hythe_metadata.dump.Source` and of `hythe_metadata.dump.Target`."""

    def __init__(self, place: RedisPlace, *, allow_relaxed: bool = False) -> None:
        """Look at `place`; nothing is made there."""
        self._place = place
        self._key = dict(zip(keys.KEY_NAMES, keys.keys_of(place.prefix), strict=True))
        self._link = Link(place, check=lambda link: check_server(link, allow_relaxed=allow_relaxed))

    def hold(self, to: str) -> Head:
        """See `hythe_metadata.dump.Source.hold`."""
        if not self._ask(("EXISTS", self._key["store"]))[0]:
            raise FailedPrecondition(f"{_STEP} {self._place}: there is none")
        open_place(self._link)
        name = connection_name(self._place)
        clients = self._ask(("CLIENT", "LIST"))[0].decode(errors="replace")
        users = [line for line in clients.splitlines() if f" name={name} " in line]
        if users:
            raise FailedPrecondition(
                f"{_STEP} {self._place}: {len(users)} hythe-metadata processes use it",
                cause=users[0][:200],
                next_step="stop them (`hythe down`), then copy",
            )
        self._ask(("HSET", self._key["store"], "moved", unfinished(to)))
        return self.head()

    def finish(self, to: str) -> None:
        """See `hythe_metadata.dump.Source.finish`."""
        self._ask(("HSET", self._key["store"], "moved", to))

    def release(self) -> None:
        """See `hythe_metadata.dump.Source.release`."""
        self._ask(("HDEL", self._key["store"], "moved"))

    def head(self) -> Head:
        """See `hythe_metadata.dump.Target.head`."""
        found = self._ask(("HMGET", self._key["store"], "id", "era", "revision", "sequence"))[0]
        store_id, era, revision, sequence = (text.decode() for text in found)
        return Head(store_id, int(era), int(revision), int(sequence))

    def entries(self) -> Iterator[Entry]:
        """See `hythe_metadata.dump.Source.entries`."""
        counts: Counter[str] = Counter()
        indexed = 0
        for entry in self._records():
            counts[keys.place_text(entry.stored.key)] += 1
            indexed += len(entry.unique)
            yield entry
        del counts[""]
        occupants, in_index = self._ask(("HGETALL", self._key["occupants"]), ("HLEN", self._key["index"]))
        if {p.decode(): int(c) for p, c in zip(occupants[::2], occupants[1::2], strict=True)} != dict(counts):
            raise self._torn("its counts of records")
        if in_index != indexed:
            raise self._torn("its unique indexes")
        yield from self._numbers()
        yield from self._events()

    def check_empty(self) -> None:
        """See `hythe_metadata.dump.Target.check_empty`."""
        found = self._ask(*(("EXISTS", key) for key in self._key.values()))
        if any(found):
            raise FailedPrecondition(
                f"{_STEP} to {self._place}: something is there",
                next_step="choose another prefix (?prefix=NAME) or database, or remove what is there",
            )

    def fill(self, head: Head, entries: Iterable[Entry]) -> None:
        """See `hythe_metadata.dump.Target.fill`."""
        iterator = iter(entries)
        while chunk := list(itertools.islice(iterator, CHUNK)):
            self._ask(*(command for entry in chunk for command in self._commands(entry)))
        self._ask(
            (
                *("HSET", self._key["store"], "magic", keys.MAGIC, "schema", keys.SCHEMA),
                *(
                    "id",
                    head.store_id,
                    "era",
                    head.era,
                    "revision",
                    head.revision,
                    "mark",
                    f"{head.store_id}.{head.era}",
                ),
                *("sequence", head.sequence, "floor", head.revision),
            )
        )

    def clear(self) -> None:
        """See `hythe_metadata.dump.Target.clear`."""
        self._ask(("UNLINK", *self._key.values()))

    def close(self) -> None:
        """See `hythe_metadata.dump.Source.close`."""
        self._link.close()

    def _ask(self, *commands: Command) -> list[Any]:
        return self._link.question(_STEP, *commands)

    def _records(self) -> Iterator[RecordEntry]:
        first = "-"
        while True:
            names = self._ask(("ZRANGE", self._key["names"], first, "+", "BYLEX", "LIMIT", 0, CHUNK))[0]
            if not names:
                return
            fields = ("body", "bulk", "unique", "edges")
            due = ("ZMSCORE", self._key["due"], *names)
            *columns, times = self._ask(*(("HMGET", self._key[field], *names) for field in fields), due)
            found = [self._record(*row) for row in zip(names, *columns, times, strict=True)]
            self._check_index(found)
            yield from found
            first = b"(" + names[-1]

    def _record(
        self, name: bytes, body: bytes | None, bulk: bytes | None, unique: bytes | None, edges: bytes | None, due: Any
    ) -> RecordEntry:
        key = keys.key_from(name.decode())
        if body is None:
            raise self._torn(f"{key.kind} {key.name}")
        return RecordEntry(
            keys.stored_from(key, body.decode(), (bulk or b"").decode()),
            keys.index_from((unique or b"").decode()),
            tuple(sorted(keys.edges_from((edges or b"").decode()))),
            int(float(due)) if due is not None else 0,
        )

    def _check_index(self, found: list[RecordEntry]) -> None:
        wanted: dict[IndexKey, Key] = {entry: record.stored.key for record in found for entry in record.unique}
        if not wanted:
            return
        holders = self._ask(("HMGET", self._key["index"], *map(keys.index_text, wanted)))[0]
        for (entry, key), holder in zip(wanted.items(), holders, strict=True):
            if holder is None or keys.key_from(holder.decode()) != key:
                raise self._torn(f"{entry[0]} {entry[2]} of {key.kind} {key.name}")

    def _numbers(self) -> Iterator[NumberEntry]:
        numbers, ages = self._ask(("HGETALL", self._key["numbers"]), ("ZRANGE", self._key["ages"], 0, -1, "WITHSCORES"))
        times = dict(zip(ages[::2], ages[1::2], strict=True))
        found = dict(zip(numbers[::2], numbers[1::2], strict=True))
        if times.keys() != found.keys():
            raise self._torn("its numbers of events")
        for name in sorted(found):
            namespace, noun, object_id = name.decode().split("\0")
            yield NumberEntry(namespace, noun, object_id, int(found[name]), int(float(times[name])))

    def _events(self) -> Iterator[OutgoingEvent]:
        first = "-"
        while found := self._ask(("XRANGE", self._key["outbox"], first, "+", "COUNT", CHUNK))[0]:
            for entry in found:
                sequence, fields = keys.stream_fields(entry)
                yield keys.event_from(sequence, int(fields[b"n"]), fields[b"e"].decode())
            first = b"(" + found[-1][0]

    def _commands(self, entry: Entry) -> Iterator[Command]:
        if isinstance(entry, RecordEntry):
            yield from self._record_commands(entry)
        elif isinstance(entry, NumberEntry):
            name = keys.joined(entry.namespace, entry.noun, entry.object_id)
            yield "HSET", self._key["numbers"], name, entry.last
            yield "ZADD", self._key["ages"], entry.changed_ms, name
        else:
            origin = Origin(entry.namespace, entry.caller, entry.request_id, entry.trace_id)
            text = keys.event_text(origin, entry, entry.time)
            fields = ("n", entry.number, "t", ns_of(entry.time) // 1_000_000, "e", text)
            yield "XADD", self._key["outbox"], f"{entry.sequence}-0", *fields

    def _record_commands(self, entry: RecordEntry) -> Iterator[Command]:
        stored = entry.stored
        name = keys.key_text(stored.key)
        yield "HSET", self._key["body"], name, keys.body_text(stored)
        yield "ZADD", self._key["names"], 0, name
        texts = (
            ("bulk", stored.bulk),
            ("unique", keys.index_texts(entry.unique)),
            ("edges", keys.edges_text(entry.edges)),
        )
        for field, text in texts:
            if text:
                yield "HSET", self._key[field], name, text
        for index in entry.unique:
            yield "HSET", self._key["index"], keys.index_text(index), name
        if entry.forget_at_ms:
            yield "ZADD", self._key["due"], entry.forget_at_ms, name
        if place := keys.place_text(stored.key):
            yield "HINCRBY", self._key["occupants"], place, 1

    def _torn(self, what: str) -> DataLoss:
        return DataLoss(
            f"read metadata store {self._place}: {what} doesn't agree with the rest",
            next_step="nothing was changed; put a copy of redis-server's data back",
        )
