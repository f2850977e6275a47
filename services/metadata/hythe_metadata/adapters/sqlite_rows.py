"""How records of the domain stand in the rows of the SQLite store, and how rows are read and written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import ContainerRecord, ImageRecord, Origin
from hythe_metadata.changes import Answered, Happening, Moment
from hythe_metadata.containers import StoredContainer

CONTAINER = (
    "id, namespace, name, reference, digest, host, spec, desired, phase, era, epoch_revision, revision, created_at,"
    " lease_until_ms, lease_s, wish_hash"
)
IMAGE = "namespace, reference, digest, media_type, size_bytes, revision, created_at, updated_at"
OUTGOING = "sequence, namespace, noun, object_id, past, topic, number, time, caller, request_id, trace_id, attributes"

Row = tuple[Any, ...]


def container_of(row: Row, boottime_ms: int) -> ContainerRecord:
    """Return the record in a row of `CONTAINER`, as it is at `boottime_ms`."""
    return ContainerRecord(*(*row[:13], 0 < row[13] <= boottime_ms))


def stored_container(row: Row, boottime_ms: int) -> StoredContainer:
    """Return the whole of a row of `CONTAINER`."""
    return StoredContainer(container_of(row, boottime_ms), wish_hash=row[15], lease_s=row[14])


def container_from_json(text: str) -> ContainerRecord:
    """Return the record that was answered as `text`."""
    return ContainerRecord(**json.loads(text))


def image_from_json(text: str) -> ImageRecord:
    """Return the record that was answered as `text`."""
    return ImageRecord(**json.loads(text))


def image_of(row: Row) -> ImageRecord:
    """Return the record in a row of `IMAGE`."""
    return ImageRecord(*row)


def outgoing_of(row: Row) -> OutgoingEvent:
    """Return the event in a row of `OUTGOING`."""
    return OutgoingEvent(*(*row[:11], json.loads(row[11])))


def write_container(connection: sqlite3.Connection, stored: StoredContainer, boottime_ms: int, now_ns: int) -> None:
    """Write or replace the row of a container; its lease counts from `boottime_ms`."""
    record = stored.record
    lease_until_ms = boottime_ms + int(stored.lease_s * 1000) if stored.lease_s else 0
    connection.execute(
        "INSERT INTO containers (id, namespace, name, reference, digest, host, spec, desired, phase, era, epoch_revision,"
        " revision, created_at, lease_until_ms, lease_s, wish_hash, changed_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET desired = excluded.desired, phase = excluded.phase, era = excluded.era,"
        " epoch_revision = excluded.epoch_revision, revision = excluded.revision,"
        " lease_until_ms = excluded.lease_until_ms, lease_s = excluded.lease_s, changed_ns = excluded.changed_ns",
        (
            record.id,
            record.namespace,
            record.name,
            record.reference,
            record.digest,
            record.host,
            record.spec,
            record.desired,
            record.phase,
            record.era,
            record.epoch_revision,
            record.revision,
            record.created_at,
            lease_until_ms,
            stored.lease_s,
            stored.wish_hash,
            now_ns,
        ),
    )


def forget_container(connection: sqlite3.Connection, container_id: str, now_ns: int) -> None:
    """Delete the row of a container and remember its id as gone."""
    connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
    connection.execute("INSERT OR REPLACE INTO gone VALUES (?, ?)", (container_id, now_ns))


def write_image(connection: sqlite3.Connection, record: ImageRecord) -> None:
    """Write or replace the row of an image."""
    connection.execute(
        f"INSERT OR REPLACE INTO images ({IMAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.namespace,
            record.reference,
            record.digest,
            record.media_type,
            record.size_bytes,
            record.revision,
            record.created_at,
            record.updated_at,
        ),
    )


def forget_image(connection: sqlite3.Connection, namespace: str, reference: str) -> None:
    """Delete the row of an image."""
    connection.execute("DELETE FROM images WHERE namespace = ? AND reference = ?", (namespace, reference))


def write_happening(connection: sqlite3.Connection, origin: Origin, happening: Happening, moment: Moment) -> None:
    """Number an event of its object and put it into the outbox."""
    (number,) = connection.execute(
        "INSERT INTO event_numbers VALUES (?, ?, ?, 1)"
        " ON CONFLICT (namespace, noun, object_id) DO UPDATE SET last = last + 1 RETURNING last",
        (origin.namespace, happening.noun, happening.object_id),
    ).fetchone()
    connection.execute(
        "INSERT INTO outbox (namespace, noun, object_id, past, topic, number, time, caller, request_id, trace_id, attributes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            origin.namespace,
            happening.noun,
            happening.object_id,
            happening.past,
            happening.topic,
            number,
            moment.time,
            origin.caller,
            origin.request_id,
            origin.trace_id,
            json.dumps(dict(happening.attributes), separators=(",", ":")),
        ),
    )


def forget_outgoing(connection: sqlite3.Connection, sequences: Sequence[int]) -> None:
    """Delete events from the outbox."""
    connection.executemany("DELETE FROM outbox WHERE sequence = ?", [(sequence,) for sequence in sequences])


def read_answered(connection: sqlite3.Connection, origin: Origin) -> Answered | None:
    """Return what was answered to the request of `origin`, if it is remembered."""
    row = connection.execute(
        "SELECT kind, body_hash, result FROM requests WHERE namespace = ? AND caller = ? AND request_id = ?",
        (origin.namespace, origin.caller, origin.request_id),
    ).fetchone()
    return Answered(*row) if row else None


def write_answered(connection: sqlite3.Connection, origin: Origin, answered: Answered, now_ns: int) -> None:
    """Remember what was answered to the request of `origin`."""
    connection.execute(
        "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            origin.namespace,
            origin.caller,
            origin.request_id,
            answered.kind,
            answered.body_hash,
            answered.result,
            now_ns,
        ),
    )
