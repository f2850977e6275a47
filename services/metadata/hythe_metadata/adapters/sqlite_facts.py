"""What decisions want to know, read from the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from hythe.clock import boottime_ms, now_rfc3339
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import ALL_NAMESPACES, ContainerRecord, ContainerWish, ImageRecord
from hythe_metadata.adapters import sqlite_rows as rows
from hythe_metadata.changes import Moment
from hythe_metadata.containers import BeginFacts, StoredContainer
from hythe_metadata.images import place_of

CANDIDATES = 10


def moment(connection: sqlite3.Connection) -> Moment:
    """Return now, with the revision that a change made now will have."""
    revision, era = connection.execute("SELECT revision, era FROM store").fetchone()
    return Moment(now_rfc3339(), revision + 1, era)


def begin_facts(connection: sqlite3.Connection, namespace: str, wish: ContainerWish) -> BeginFacts:
    """Return what is stored that matters to `wish`."""
    now = boottime_ms()
    same_id = connection.execute(f"SELECT {rows.CONTAINER} FROM containers WHERE id = ?", (wish.id,)).fetchone()
    gone = connection.execute("SELECT 1 FROM gone WHERE id = ?", (wish.id,)).fetchone()
    holders = find(connection, namespace, "name = ? AND phase <> 'removing'", wish.name)
    return BeginFacts(
        existing=rows.stored_container(same_id, now) if same_id else None,
        gone=gone is not None,
        holder=holders[0] if holders else None,
        image=None if wish.digest else image(connection, namespace, wish.reference),
    )


def container(connection: sqlite3.Connection, namespace: str, container_id: str) -> StoredContainer | None:
    """Return the container of that full id in `namespace`, in whatever phase."""
    row = connection.execute(
        f"SELECT {rows.CONTAINER} FROM containers WHERE id = ? AND namespace = ?", (container_id, namespace)
    ).fetchone()
    return rows.stored_container(row, boottime_ms()) if row else None


def find(connection: sqlite3.Connection, namespace: str, condition: str, value: str) -> list[ContainerRecord]:
    """Return up to `CANDIDATES` containers, in one namespace or all, for which `condition` on `value` holds."""
    values: tuple[str, ...] = (value,)
    if namespace != ALL_NAMESPACES:
        condition, values = f"namespace = ? AND {condition}", (namespace, value)
    found = connection.execute(
        f"SELECT {rows.CONTAINER} FROM containers WHERE {condition} ORDER BY id LIMIT {CANDIDATES}", values
    )
    now = boottime_ms()
    return [rows.container_of(row, now) for row in found]


def image(connection: sqlite3.Connection, namespace: str, reference: str) -> ImageRecord | None:
    """Return the image of that name in `namespace`."""
    row = connection.execute(
        f"SELECT {rows.IMAGE} FROM images WHERE namespace = ? AND reference = ?", (namespace, reference)
    ).fetchone()
    return rows.image_of(row) if row else None


def containers(connection: sqlite3.Connection, namespace: str, after: str, limit: int) -> Iterator[ContainerRecord]:
    """Yield containers not being removed whose id comes after `after`, by id."""
    where, values = ("namespace = ? AND ", (namespace,)) if namespace != ALL_NAMESPACES else ("", ())
    now = boottime_ms()
    for row in connection.execute(
        f"SELECT {rows.CONTAINER} FROM containers WHERE {where}id > ? AND phase <> 'removing' ORDER BY id LIMIT ?",
        (*values, after, limit),
    ):
        yield rows.container_of(row, now)


def images(connection: sqlite3.Connection, namespace: str, after: str, limit: int) -> Iterator[ImageRecord]:
    """Yield the images that come after `after` in the list of `namespace`, or of all."""
    where, values = "namespace = ? AND reference > ?", (namespace, after)
    if namespace == ALL_NAMESPACES:
        where, values = "(namespace, reference) > (?, ?)", place_of(after)
    for row in connection.execute(
        f"SELECT {rows.IMAGE} FROM images WHERE {where} ORDER BY namespace, reference LIMIT ?", (*values, limit)
    ):
        yield rows.image_of(row)


def outgoing(connection: sqlite3.Connection, after: int, limit: int) -> list[OutgoingEvent]:
    """Return the oldest events in the outbox beyond `after`."""
    found = connection.execute(
        f"SELECT {rows.OUTGOING} FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
    )
    return [rows.outgoing_of(row) for row in found]
