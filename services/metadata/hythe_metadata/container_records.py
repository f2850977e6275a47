"""How container records are kept: under their ids, found by name, and remembered for a while when they are gone."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hythe.errors import NotFound
from hythe.ports.metadata import ContainerRecord, Origin
from hythe_metadata.changes import REQUEST_MEMORY_S
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.namespaces import ensure
from hythe_metadata.records import NO_NAMESPACE, Edge, Key, Stored, Transaction, View
from hythe_metadata.references import ANY_SNAPSHOTTER, SNAPSHOT, edges_of_labels

KIND = "container"
GONE = "gone"
NAMES = "container.name"
IDS = "container.id"
ID_LENGTH = 32
SHORT_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class StoredContainer:
    """A record as it is kept: with the hash of the wish that made it, and its lease in seconds (0: none)."""

    record: ContainerRecord
    wish_hash: str
    lease_s: float


def read(stored: Stored, leases: LeaseClock) -> StoredContainer:
    """Return the container that is stored; its lease runs as long as it is creating."""
    key = stored.key
    return _from(stored.body, stored.bulk, key.namespace, key.name, stored.revision, leases)


def find(view: View, namespace: str, container_id: str, leases: LeaseClock) -> StoredContainer | None:
    """Return the container of that full id in `namespace`, if it is there and not being removed."""
    stored = view.get(Key(KIND, namespace, container_id))
    return read(stored, leases) if stored else None


def find_anywhere(view: View, container_id: str, leases: LeaseClock) -> StoredContainer | None:
    """Return the container of that full id in whatever namespace."""
    key = view.named(IDS, NO_NAMESPACE, container_id)
    return find(view, key.namespace, container_id, leases) if key else None


def find_gone(view: View, container_id: str) -> StoredContainer | None:
    """Return the record of a container that is being removed, or was within a day."""
    stored = view.get(_grave(container_id))
    if stored is None:
        return None
    found = json.loads(stored.body)
    if "container" not in found:
        return None
    return _from(found["container"], stored.bulk, found["namespace"], container_id, stored.revision, None)


def is_gone(view: View, container_id: str) -> bool:
    """Tell whether a container of that id existed within a day and is gone."""
    return view.get(_grave(container_id)) is not None


def put(transaction: Transaction, origin: Origin, container: StoredContainer) -> None:
    """Write a container with what belongs to it."""
    record = container.record
    ensure(transaction, origin, record.namespace)
    kind = SNAPSHOT + record.snapshotter if record.snapshotter else ANY_SNAPSHOTTER
    image = (Edge("content", record.digest, "image"),) if record.digest else ()
    transaction.put(
        Key(KIND, record.namespace, record.id),
        _body(container),
        bulk=record.spec,
        unique={NAMES: record.name},
        everywhere={IDS: record.id},
        edges=(Edge(kind, record.snapshot_key, "snapshot_key"), *image, *edges_of_labels(record.labels)),
    )


def bury(transaction: Transaction, record: ContainerRecord, removed: StoredContainer | None) -> None:
    """Take a container out of its namespace and remember its id for a day, so that a late repetition never makes it again.

    Args:
        removed: what is answered to those who ask by its full id; None for nothing.
    """
    transaction.delete(Key(KIND, record.namespace, record.id))
    found = {"namespace": record.namespace, "container": _body(removed)} if removed else {}
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    transaction.put(_grave(record.id), text, bulk=record.spec if removed else "", keep_s=REQUEST_MEMORY_S)


def not_found(key: str, namespace: str = "") -> NotFound:
    """Return the error for a container that is not there."""
    where = f" in namespace {namespace}" if namespace else ""
    return NotFound(
        f"find container {key!r}: no such container{where}",
        next_step="`hythe ps --all` lists them",
        details={"kind": "container"},
    )


def _grave(container_id: str) -> Key:
    return Key(GONE, NO_NAMESPACE, container_id)


def _body(container: StoredContainer) -> str:
    record = container.record
    values = {
        "name": record.name,
        "reference": record.reference,
        "digest": record.digest,
        "host": record.host,
        "desired": record.desired,
        "phase": record.phase,
        "era": record.era,
        "epoch_revision": record.epoch_revision,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "labels": dict(record.labels),
        "runtime": record.runtime,
        "snapshotter": record.snapshotter,
        "wish_hash": container.wish_hash,
        "lease_s": container.lease_s,
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _from(
    body: str, spec: str, namespace: str, container_id: str, revision: int, leases: LeaseClock | None
) -> StoredContainer:
    values = json.loads(body)
    lease_s = values["lease_s"]
    expired = False
    if leases is not None and lease_s and values["phase"] == "creating":
        expired = leases.expired(f"{KIND} {container_id}", revision, lease_s)
    record = ContainerRecord(
        id=container_id,
        namespace=namespace,
        name=values["name"],
        reference=values["reference"],
        digest=values["digest"],
        host=values["host"],
        spec=spec,
        desired=values["desired"],
        phase=values["phase"],
        era=values["era"],
        epoch_revision=values["epoch_revision"],
        revision=revision,
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        labels=values["labels"],
        runtime=values["runtime"],
        snapshotter=values["snapshotter"],
        lease_expired=expired,
    )
    return StoredContainer(record, values["wish_hash"], lease_s)
