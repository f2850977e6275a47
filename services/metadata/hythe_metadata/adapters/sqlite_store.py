"""The SQLite body of the metadata store: reads facts, lets the domain decide, writes the plan, in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hythe.clock import boottime_ms, now_ns
from hythe.identifiers import check_id
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import (
    ContainerRecord,
    ContainerWish,
    Desired,
    FinishOutcome,
    ImageRecord,
    ImageWish,
    Origin,
    Page,
)
from hythe_metadata import containers, images
from hythe_metadata.adapters import sqlite_facts as facts
from hythe_metadata.adapters import sqlite_plans as plans
from hythe_metadata.adapters import sqlite_rows as rows
from hythe_metadata.adapters.sqlite_errors import translated
from hythe_metadata.adapters.sqlite_readers import Readers
from hythe_metadata.adapters.sqlite_schema import begin_log, open_store
from hythe_metadata.adapters.sqlite_upkeep import prune, renew_leases
from hythe_metadata.adapters.sqlite_writer import Observe, Work, Writer
from hythe_metadata.changes import body_hash

PRUNE_INTERVAL_S = 600.0

T = TypeVar("T")


def _observe_nothing(changes: int, seconds: float) -> None:
    pass


class SqliteStore:
    """The store in one SQLite file; keeps the promises of `hythe.ports.metadata.Store`."""

    def __init__(self, path: Path, observe: Observe = _observe_nothing) -> None:
        """Open the store at `path`, making it if there is none; blocks until it is checked.

        Args:
            path: the file; its directory must exist.
            observe: told of each commit how many changes it had and how many seconds it took, in another thread.

        Raises:
            DataLoss: the file is damaged; it is left as it is.
            FailedPrecondition: it belongs to another program or a newer version, or can't be written.
            ResourceExhausted: the disk is full.
            Unavailable: another program holds it.
        """
        connection = open_store(path)
        with translated("open metadata store", path):
            renew_leases(connection, boottime_ms())
            prune(connection, now_ns())
            begin_log(connection)
            self._store_id, self._era = connection.execute("SELECT id, era FROM store").fetchone()
        self._on_change: list[Callable[[], None]] = []
        self._pruned_at = time.monotonic()
        self._readers = Readers(path)
        self._writer = Writer(connection, path, self._rest, observe)

    @property
    def store_id(self) -> str:
        """Id of this store, 32 hex digits."""
        return str(self._store_id)

    @property
    def era(self) -> int:
        """The higher part of every epoch."""
        return int(self._era)

    async def begin(self, origin: Origin, wish: ContainerWish) -> ContainerRecord:
        """See `hythe.ports.metadata.Store.begin`."""
        containers.check_wish(origin.namespace, wish)
        wish_hash = body_hash(origin.namespace, wish)

        def work(connection: sqlite3.Connection) -> ContainerRecord:
            moment = facts.moment(connection)
            found = facts.begin_facts(connection, origin.namespace, wish)
            plan = containers.plan_begin(origin.namespace, wish, wish_hash, found, moment)
            return plans.apply_container(connection, origin, plan, moment)

        return await self._change(work)

    async def finish(self, origin: Origin, container_id: str, outcome: FinishOutcome) -> ContainerRecord | None:
        """See `hythe.ports.metadata.Store.finish`."""
        check_id(container_id, "container id")

        def work(connection: sqlite3.Connection) -> ContainerRecord | None:
            moment = facts.moment(connection)
            existing = facts.container(connection, origin.namespace, container_id)
            return plans.apply_container(connection, origin, containers.plan_finish(existing, outcome, moment), moment)

        return await self._change(work)

    async def desire(self, origin: Origin, container_id: str, desired: Desired) -> ContainerRecord:
        """See `hythe.ports.metadata.Store.desire`."""
        check_id(container_id, "container id")
        hashed = body_hash(origin.namespace, containers.DesireWish(container_id, desired))

        def work(connection: sqlite3.Connection) -> ContainerRecord:
            def change() -> ContainerRecord:
                moment = facts.moment(connection)
                existing = facts.container(connection, origin.namespace, container_id)
                plan = containers.plan_desire(existing, container_id, desired, moment)
                return plans.apply_container(connection, origin, plan, moment)

            return plans.once(connection, origin, "container.desire", hashed, rows.container_from_json, change)

        return await self._change(work)

    async def container(self, namespace: str, key: str) -> ContainerRecord:
        """See `hythe.ports.metadata.Store.container`."""

        def read(connection: sqlite3.Connection) -> ContainerRecord:
            exact = facts.find(connection, namespace, "id = ?", key)
            if exact:
                return exact[0]
            candidates = facts.find(connection, namespace, "name = ? AND phase <> 'removing'", key)
            if not candidates and containers.may_be_prefix(key):
                candidates = facts.find(connection, namespace, "id GLOB ? AND phase <> 'removing'", f"{key}*")
            return containers.choose(namespace, key, candidates)

        return await self._readers.run(read)

    async def containers(self, namespace: str, after: str, limit: int) -> Page[ContainerRecord]:
        """See `hythe.ports.metadata.Store.containers`."""

        def read(connection: sqlite3.Connection) -> Page[ContainerRecord]:
            return containers.page(facts.containers(connection, namespace, after, limit + 1), limit)

        return await self._readers.run(read)

    async def put_image(self, origin: Origin, wish: ImageWish) -> ImageRecord:
        """See `hythe.ports.metadata.Store.put_image`."""
        images.check_image(origin.namespace, wish)
        hashed = body_hash(origin.namespace, wish)

        def work(connection: sqlite3.Connection) -> ImageRecord:
            def change() -> ImageRecord:
                moment = facts.moment(connection)
                existing = facts.image(connection, origin.namespace, wish.reference)
                plan = images.plan_put(origin.namespace, wish, existing, moment)
                return plans.apply_image(connection, origin, plan, moment)

            return plans.once(connection, origin, "image.put", hashed, rows.image_from_json, change)

        return await self._change(work)

    async def image(self, namespace: str, reference: str) -> ImageRecord:
        """See `hythe.ports.metadata.Store.image`."""
        found = await self._readers.run(lambda connection: facts.image(connection, namespace, reference))
        if found is None:
            raise images.not_found(reference)
        return found

    async def images(self, namespace: str, after: str, limit: int) -> Page[ImageRecord]:
        """See `hythe.ports.metadata.Store.images`."""
        return await self._readers.run(
            lambda connection: images.page(namespace, facts.images(connection, namespace, after, limit + 1), limit)
        )

    async def remove_image(self, origin: Origin, reference: str, if_revision: int | None = None) -> None:
        """See `hythe.ports.metadata.Store.remove_image`."""
        images.check_reference(reference)
        wish = images.RemoveWish(reference, if_revision)
        hashed = body_hash(origin.namespace, wish)

        def work(connection: sqlite3.Connection) -> None:
            def change() -> None:
                moment = facts.moment(connection)
                plan = images.plan_remove(wish, facts.image(connection, origin.namespace, reference))
                plans.apply_image(connection, origin, plan, moment)

            plans.once(connection, origin, "image.remove", hashed, lambda text: None, change)

        await self._change(work)

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `hythe.ports.metadata.Store.outgoing`."""
        return await self._readers.run(lambda connection: facts.outgoing(connection, after, limit))

    def sent(self, sequences: Sequence[int]) -> None:
        """See `hythe.ports.metadata.Store.sent`."""
        self._writer.later(lambda connection: rows.forget_outgoing(connection, sequences))

    async def close(self) -> None:
        """See `hythe.ports.metadata.Store.close`."""
        await self._readers.close()
        await self._writer.close()

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `hythe.ports.metadata.Store.on_change`."""
        self._on_change.append(callback)

    async def _change(self, work: Work[T]) -> T:
        result = await self._writer.run(work)
        for callback in self._on_change:
            callback()
        return result

    def _rest(self, connection: sqlite3.Connection) -> None:
        if time.monotonic() - self._pruned_at >= PRUNE_INTERVAL_S:
            self._pruned_at = time.monotonic()
            prune(connection, now_ns())
