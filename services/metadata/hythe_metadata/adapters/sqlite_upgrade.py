"""How older SQLite stores become present ones; each step spells out what it writes, for the modules of records change."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping

from hythe.clock import now_ns
from hythe_metadata.adapters.sqlite_tables import TABLES
from hythe_metadata.references import edges_of_labels

Upgrade = Callable[[sqlite3.Connection], None]

_KEEP_NS = 86_400 * 1_000_000_000
_OLD_TABLES = ("containers", "gone", "images", "requests", "event_numbers", "outbox", "store")
_OUTBOX = "sequence, namespace, noun, object_id, past, topic, number, time, caller, request_id, trace_id, attributes"


def _from_1(connection: sqlite3.Connection) -> None:
    """Version 1 had a table for each kind; version 2 has records."""
    for table in _OLD_TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for (index,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall():
        connection.execute(f"DROP INDEX {index}")
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO store SELECT only, id, era, revision, revision, '' FROM old_store")
    _containers_from_1(connection)
    _images_from_1(connection)
    for namespace, caller, request_id, kind, hashed, result, changed_ns in connection.execute(
        "SELECT namespace, caller, request_id, kind, body_hash, result, changed_ns FROM old_requests"
    ).fetchall():
        body = json.dumps([kind, hashed, result], separators=(",", ":"))
        _put(connection, "request", "", f"{namespace} {caller} {request_id}", 0, body, forget_ns=changed_ns + _KEEP_NS)
    connection.execute(  # when an object was last told of wasn't kept, so its number is remembered from now on
        "INSERT INTO event_numbers SELECT namespace, noun, object_id, last, ? FROM old_event_numbers", (now_ns(),)
    )
    connection.execute(f"INSERT INTO outbox ({_OUTBOX}) SELECT {_OUTBOX} FROM old_outbox")
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'outbox', seq FROM sqlite_sequence WHERE name = 'old_outbox'"
        " AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'outbox')"
    )
    connection.execute(
        "UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence WHERE name IN ('outbox', 'old_outbox'))"
        " WHERE name = 'outbox'"
    )
    for table in _OLD_TABLES:
        connection.execute(f"DROP TABLE old_{table}")
    connection.execute(
        "INSERT INTO occupants SELECT namespace, kind, count(*) FROM records WHERE kind IN ('container', 'image') GROUP BY 1, 2"
    )
    _namespaces_from_1(connection)


def _containers_from_1(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT id, namespace, name, reference, digest, host, spec, desired, phase, era, epoch_revision, revision,"
        " created_at, wish_hash, lease_s, changed_ns FROM old_containers"
    ).fetchall()
    for row in rows:
        (id_, namespace, name, reference, digest, host, spec, desired, phase, era, epoch) = row[:11]
        revision, created_at, wish_hash, lease_s, changed_ns = row[11:]
        labels = _labels_of(spec)
        body = {
            "name": name,
            "reference": reference,
            "digest": digest,
            "host": host,
            "desired": desired,
            "phase": phase,
            "era": era,
            "epoch_revision": epoch,
            "created_at": created_at,
            "updated_at": created_at,
            "labels": labels,
            "runtime": "",
            "snapshotter": "",
            "wish_hash": wish_hash,
            "lease_s": lease_s,
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        if phase == "removing":
            gone = json.dumps({"namespace": namespace, "container": text}, ensure_ascii=False, separators=(",", ":"))
            _put(connection, "gone", "", id_, revision, gone, bulk=spec, forget_ns=changed_ns + _KEEP_NS)
            continue
        _put(connection, "container", namespace, id_, revision, text, bulk=spec, has=3)
        place = ("container", namespace, id_)
        connection.execute("INSERT INTO uniques VALUES ('container.name', ?, ?, ?, ?, ?)", (namespace, name, *place))
        connection.execute("INSERT INTO uniques VALUES ('container.id', '', ?, ?, ?, ?)", (id_, *place))
        edges = {("snapshot/*", id_, "snapshot_key"), *([("content", digest, "image")] if digest else [])}
        edges |= {(edge.kind, edge.name, edge.via) for edge in edges_of_labels(labels)}
        connection.executemany("INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?)", [(*place, *edge) for edge in edges])
    for id_, changed_ns in connection.execute("SELECT id, changed_ns FROM old_gone").fetchall():
        _put(connection, "gone", "", id_, 0, "{}", forget_ns=changed_ns + _KEEP_NS)


def _labels_of(spec: str) -> dict[str, str]:
    """Return the labels that version 1 had only in the spec."""
    try:
        wanted = json.loads(spec)
    except ValueError:
        return {}  # version 1 never read it
    found = wanted.get("labels") if isinstance(wanted, dict) else None
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _images_from_1(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT namespace, reference, digest, media_type, size_bytes, revision, created_at, updated_at FROM old_images"
    ).fetchall()
    for namespace, reference, digest, media_type, size_bytes, revision, created_at, updated_at in rows:
        body = {
            "digest": digest,
            "media_type": media_type,
            "size_bytes": size_bytes,
            "created_at": created_at,
            "updated_at": updated_at,
            "labels": {},
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        _put(connection, "image", namespace, reference, revision, text, has=2)
        connection.execute(
            "INSERT INTO edges VALUES ('image', ?, ?, 'content', ?, 'target')", (namespace, reference, digest)
        )


def _namespaces_from_1(connection: sqlite3.Connection) -> None:
    now, revision = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), revision FROM store").fetchone()
    body = json.dumps({"created_at": now, "updated_at": now, "labels": {}}, separators=(",", ":"))
    names = connection.execute("SELECT DISTINCT namespace FROM occupants").fetchall()
    for (name,) in names:
        _put(connection, "namespace", "", name, revision, body)
    if names:
        connection.execute("INSERT INTO occupants VALUES ('', 'namespace', ?)", (len(names),))


def _put(
    connection: sqlite3.Connection,
    kind: str,
    namespace: str,
    name: str,
    revision: int,
    body: str,
    *,
    bulk: str = "",
    forget_ns: int = 0,
    has: int = 0,
) -> None:
    connection.execute(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (kind, namespace, name, revision, forget_ns, has, body, bulk),
    )


# Each entry brings a store from the version before to this one, inside one transaction with the version's own record.
UPGRADES: Mapping[int, Upgrade] = {2: _from_1}
