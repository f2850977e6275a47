"""The Redis body of the metadata store; several processes may use one store at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hythe.errors import FailedPrecondition, Unavailable
from hythe.identifiers import new_id
from hythe.ports.events import OutgoingEvent
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.batches import Batches, Observe
from hythe_metadata.adapters.redis_body import UPKEEP_S, RedisBody
from hythe_metadata.adapters.redis_committer import Committer
from hythe_metadata.adapters.redis_link import Link
from hythe_metadata.adapters.redis_server import check_server
from hythe_metadata.adapters.redis_view import RedisView
from hythe_metadata.adapters.redis_watcher import SENDER_TURN_MS, Watcher
from hythe_metadata.adapters.store_url import RedisPlace
from hythe_metadata.dump import moved
from hythe_metadata.records import Read, Work

READERS = 4
KEPT_CHANGES = 100_000
_OPEN = "open metadata store"

T = TypeVar("T")


def _observe_nothing(changes: int, seconds: float) -> None:
    pass


class RedisStore:
    """Keeps the promises of `hythe_metadata.records.RecordStore`, but for how one a `read` is: see `RedisView`."""

    def __init__(
        self,
        place: RedisPlace,
        observe: Observe = _observe_nothing,
        *,
        allow_relaxed: bool = False,
        kept_changes: int = KEPT_CHANGES,
        upkeep_s: float = UPKEEP_S,
    ) -> None:
        """Open the store at `place`, making it if there is none; blocks until it is checked.

        Args:
            observe: told of each batch how many changes it had and how many seconds it took, in another thread.
            allow_relaxed: ``appendfsync everysec`` is enough: what was acknowledged in the last second may be lost.
            kept_changes: how many revisions the log of changes goes back.
            upkeep_s: how often records are forgotten whose time has come.

        Raises:
            FailedPrecondition: Redis isn't set up for it, something else is under the prefix, a newer version made the
                store, or it was moved.
            DataLoss: a part of the store is missing.
            Unavailable: Redis is away.
        """
        self._place = place
        self._process = new_id()
        link = Link(place, connection_name(place), lambda made: self._check(made, allow_relaxed=allow_relaxed))
        self._committer: Committer | None = None
        try:
            self._store_id, self._era, revision = open_place(link)
        except BaseException:
            link.close()
            raise
        self._committer = Committer(link, self._store_id, self._era, self._process, kept_changes)
        self._callbacks: list[tuple[Callable[[], None], asyncio.AbstractEventLoop]] = []
        self._turn_callbacks: list[Callable[[], None]] = []
        self._closed = False
        self._links = threading.local()
        self._every_link: list[Link] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="metadata-reader")
        body = RedisBody(self._committer, self._call_back, upkeep_s)
        body.rest()
        self._batches = Batches(body, f"metadata store {place}", observe)
        self._watcher = Watcher(place, self._process, revision, self._call_back)

    @property
    def store_id(self) -> str:
        """See `hythe_metadata.records.RecordStore.store_id`."""
        return self._store_id

    @property
    def era(self) -> int:
        """See `hythe_metadata.records.RecordStore.era`."""
        return self._era

    async def change(self, work: Work[T]) -> T:
        """See `hythe_metadata.records.RecordStore.change`."""
        return (await self._batches.run(work)).result

    async def read(self, read: Read[T]) -> T:
        """See `hythe_metadata.records.RecordStore.read`."""
        return await self._in_reader(lambda link: read(RedisView(link, self._store_id, self._era)))

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_change`."""
        self._callbacks.append((callback, asyncio.get_running_loop()))

    def on_turn(self, callback: Callable[[], None]) -> None:
        """See `hythe_metadata.records.RecordStore.on_turn`."""
        self._turn_callbacks.append(callback)

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe_metadata.records.RecordStore.outgoing`."""
        step = "read events of metadata store"
        turn, found = await self._in_reader(
            lambda link: link.question(
                step, link.call("outgoing", self._store_id, self._process, after, limit, SENDER_TURN_MS)
            )[0]
        )
        self._watcher.sending = bool(found)
        if turn == b"taken":
            for callback in self._turn_callbacks:
                callback()
        entries = (keys.stream_fields(entry) for entry in found)
        return [keys.event_from(place, int(fields[b"n"]), fields[b"e"].decode()) for place, fields in entries]

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe_metadata.records.RecordStore.sent`."""
        self._batches.forget_sent(sequences)

    async def close(self) -> None:
        """See `hythe_metadata.records.RecordStore.close`."""
        self._closed = True
        await asyncio.to_thread(self._readers.shutdown)
        await self._batches.close()
        await asyncio.to_thread(self._watcher.close)
        for link in self._every_link:
            link.close()

    async def _in_reader(self, ask: Callable[[Link], T]) -> T:
        if self._closed:
            raise Unavailable("read metadata store: it is closed", service="metadata")
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: ask(self._reader_link()))

    def _reader_link(self) -> Link:
        link: Link | None = getattr(self._links, "link", None)
        if link is None:
            link = self._links.link = Link(self._place)
            self._every_link.append(link)
        return link

    def _call_back(self) -> None:
        for callback, loop in self._callbacks:
            try:
                loop.call_soon_threadsafe(callback)
            except RuntimeError:
                pass  # that loop has ended

    def _check(self, link: Link, *, allow_relaxed: bool) -> None:
        check_server(link, allow_relaxed=allow_relaxed)
        if self._committer is not None:
            self._committer.reconnected()


def connection_name(place: RedisPlace) -> str:
    """Return the name of the writing connection of each process that uses the store at `place`."""
    return f"hythe-metadata:{place.prefix}"


def open_place(link: Link) -> tuple[str, int, int]:
    """Return id, era and revision of the store that `link` leads to, which is made if there is nothing.

    Raises:
        FailedPrecondition: something else is there, or a newer version made the store, or it was moved.
        DataLoss: a part of the store is missing.
        Unavailable: Redis is away.
    """
    answer = link.question(_OPEN, link.call("open", keys.SCHEMA, new_id()))[0]
    magic, schema, store_id, era, revision, _, moved_to = ((part or b"").decode() for part in answer)
    if magic != keys.MAGIC:
        raise FailedPrecondition(
            f"{_OPEN} {link.place}: something else is under this prefix",
            next_step="choose another prefix (?prefix=NAME) or another database",
        )
    if int(schema) > keys.SCHEMA:
        raise FailedPrecondition(
            f"{_OPEN} {link.place}: a newer Hythe made it (version {schema}, this one knows {keys.SCHEMA})",
            next_step="use that newer version of Hythe",
        )
    if moved_to:
        raise moved(f"{_OPEN} {link.place}", moved_to)
    return store_id, int(era), int(revision)
