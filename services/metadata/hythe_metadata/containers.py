"""What becomes of container records: a record goes from creating over created to removing, and never back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hythe.digest import parse_digest
from hythe.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import check_container_name, check_id, check_identifier, check_namespace
from hythe.labels import check_labels
from hythe.ports.metadata import ContainerRecord, ContainerWish, Desired, FinishOutcome, Origin
from hythe.reference import is_bundle
from hythe_metadata import container_records as kept
from hythe_metadata import images
from hythe_metadata.changes import Happening, body_hash
from hythe_metadata.container_records import SHORT_ID_LENGTH, StoredContainer, not_found
from hythe_metadata.labelled import answer_of, check_revision, record_of
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.masks import changed_labels, check_fields
from hythe_metadata.records import Key, Transaction, Work
from hythe_metadata.repeats import once


@dataclass(frozen=True, slots=True)
class DesireWish:
    """A desired state to be set, as far as repetitions of the request must agree."""

    container_id: str
    desired: Desired


@dataclass(frozen=True, slots=True)
class UpdateWish:
    """Labels of a container to be changed; see `hythe_metadata.images.UpdateWish`."""

    container_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ("labels",)
    if_revision: int | None = None


def begin(origin: Origin, wish: ContainerWish, leases: LeaseClock) -> Work[ContainerRecord]:
    """Reserve the name, record spec and placement, take a lease; at most once per container id.

    The same wish again answers the record as it is now, whatever became of it. Without a digest the image is looked up.

    Raises:
        InvalidArgument: id, namespace, name, digest, runtime, snapshotter or a label is malformed, or image or host is missing.
        AlreadyExists: (of the work) another container of the namespace has the name.
        Conflict: (of the work) the id came before with another wish.
        NotFound: (of the work) there is no such image (details ``kind=image``).
        FailedPrecondition: (of the work) a container of this id existed and is gone.
    """
    check_id(wish.id, "container id")
    check_namespace(origin.namespace)
    check_container_name(wish.name)
    check_labels(wish.labels)
    for name, what in ((wish.runtime, "runtime name"), (wish.snapshotter, "snapshotter name")):
        if name:
            check_identifier(name, what)
    if wish.digest is not None:
        parse_digest(wish.digest)
    if not wish.reference or not wish.host:
        raise InvalidArgument(f"begin container {wish.name}: image and host must be named")
    wish_hash = body_hash(origin.namespace, wish)

    def work(transaction: Transaction) -> ContainerRecord:
        existing = _same_id(transaction, wish, leases)
        if existing is not None:
            if existing.wish_hash != wish_hash and not _same_before(existing, origin.namespace, wish):
                raise Conflict(
                    f"begin container {wish.name}: id {wish.id} was used with another request",
                    next_step="use a new id for another container",
                )
            return existing.record
        _check_name(transaction, origin.namespace, wish.name)
        digest = wish.digest or _digest_of(transaction, origin.namespace, wish.reference)
        if not digest and not is_bundle(wish.reference):
            raise NotFound(
                f"begin container {wish.name}: image {wish.reference} is not known in namespace {origin.namespace}",
                next_step=f"`hythe pull {wish.reference}`",
                details={"kind": "image", "reference": wish.reference},
            )
        moment = transaction.moment
        record = ContainerRecord(
            id=wish.id,
            namespace=origin.namespace,
            name=wish.name,
            reference=wish.reference,
            digest=digest,
            host=wish.host,
            spec=wish.spec,
            desired="running",
            phase="creating",
            era=moment.era,
            epoch_revision=moment.revision,
            revision=moment.revision,
            created_at=moment.time,
            updated_at=moment.time,
            labels=dict(wish.labels),
            runtime=wish.runtime,
            snapshotter=wish.snapshotter,
        )
        kept.put(transaction, origin, StoredContainer(record, wish_hash, wish.lease_s))
        attributes = {"id": wish.id, "image": wish.reference, "runtime.name": wish.runtime}
        attributes |= {"name": wish.name, "host": wish.host}
        transaction.emit(origin, Happening("container", wish.id, "created", "/containers/create", attributes))
        return record

    return work


def finish(
    origin: Origin, container_id: str, outcome: FinishOutcome, leases: LeaseClock
) -> Work[ContainerRecord | None]:
    """Settle a record; repeating it changes nothing, and a record never goes back in its life.

    The work returns the record as it is then; None when there is none.

    Raises:
        InvalidArgument: it is no id.
    """
    check_id(container_id, "container id")

    def work(transaction: Transaction) -> ContainerRecord | None:
        gone = kept.find_gone(transaction, container_id)
        if gone is not None:
            return gone.record if outcome != "absent" and gone.record.namespace == origin.namespace else None
        existing = kept.find(transaction, origin.namespace, container_id, leases)
        if existing is None:
            return None
        record, moment = existing.record, transaction.moment
        if outcome == "created":
            if record.phase != "creating":
                return record
            created = replace(record, phase="created", revision=moment.revision, lease_expired=False)
            kept.put(transaction, origin, replace(existing, record=created, lease_s=0.0))
            return created
        if outcome == "removing":
            removed = _desired(record, "removed", transaction) if record.desired != "removed" else record
            removed = replace(removed, phase="removing", revision=moment.revision, lease_expired=False)
            kept.bury(transaction, record, replace(existing, record=removed, lease_s=0.0))
        else:
            kept.bury(transaction, record, None)
        attributes = {"id": record.id, "name": record.name}
        transaction.emit(origin, Happening("container", record.id, "deleted", "/containers/delete", attributes))
        return removed if outcome == "removing" else None

    return work


def desire(origin: Origin, container_id: str, desired: Desired, leases: LeaseClock) -> Work[ContainerRecord]:
    """Set the desired state and raise the epoch, also for the state desired already; once per request id.

    Raises:
        InvalidArgument: it is no id.
        NotFound: (of the work) there is no such container (details ``kind=container``).
        FailedPrecondition: (of the work) it is being removed, and only ``removed`` can be desired of it.
        Conflict: (of the work) the request id came before with another wish.
    """
    check_id(container_id, "container id")
    hashed = body_hash(origin.namespace, DesireWish(container_id, desired))

    def work(transaction: Transaction) -> ContainerRecord:
        existing = kept.find(transaction, origin.namespace, container_id, leases)
        gone = kept.find_gone(transaction, container_id) if existing is None else None
        if gone is not None and gone.record.namespace == origin.namespace:
            if desired != "removed":
                raise FailedPrecondition(f"desire container {gone.record.name} {desired}: it is being removed")
            record = _desired(gone.record, desired, transaction)
            kept.bury(transaction, record, replace(gone, record=record))
            return record
        if existing is None:
            raise not_found(container_id)
        record = _desired(existing.record, desired, transaction)
        kept.put(transaction, origin, replace(existing, record=record))
        return record

    return once(origin, "container.desire", hashed, answer_of, _from_answer, work)


def update(origin: Origin, wish: UpdateWish, leases: LeaseClock) -> Work[ContainerRecord]:
    """Change labels by a field mask, once per request id; the epoch stays.

    Raises:
        InvalidArgument: it is no id, or a label or the mask breaks its rule.
        NotFound: (of the work) there is no such container.
        Conflict: (of the work) it was changed since `if_revision`.
    """
    check_id(wish.container_id, "container id")
    check_labels(wish.labels)
    check_fields(wish.fields)

    def work(transaction: Transaction) -> ContainerRecord:
        existing = kept.find(transaction, origin.namespace, wish.container_id, leases)
        if existing is None:
            raise not_found(wish.container_id)
        record, moment = existing.record, transaction.moment
        check_revision(f"update container {record.name}", wish.if_revision, record.revision)
        labels = changed_labels(record.labels, wish.labels, wish.fields)
        if labels == record.labels:
            return record
        record = replace(record, labels=labels, revision=moment.revision, updated_at=moment.time)
        kept.put(transaction, origin, replace(existing, record=record))
        told = {f"labels.{key}": value for key, value in sorted(labels.items())}
        attributes = {"id": record.id, "image": record.reference, "snapshot_key": record.snapshot_key, **told}
        transaction.emit(origin, Happening("container", record.id, "updated", "/containers/update", attributes))
        return record

    hashed = body_hash(origin.namespace, wish)
    return once(origin, "container.update", hashed, answer_of, _from_answer, work)


def _same_id(transaction: Transaction, wish: ContainerWish, leases: LeaseClock) -> StoredContainer | None:
    existing = kept.find_anywhere(transaction, wish.id, leases) or kept.find_gone(transaction, wish.id)
    if existing is None and kept.is_gone(transaction, wish.id):
        raise FailedPrecondition(
            f"begin container {wish.name}: a container of id {wish.id} existed and was removed",
            next_step="use a new id: ids are never used twice",
        )
    return existing


def _same_before(existing: StoredContainer, namespace: str, wish: ContainerWish) -> bool:
    """Tell whether the first version of the store, which knew no labels, began the container by this wish."""
    same_labels = existing.record.labels == wish.labels
    return same_labels and existing.wish_hash == body_hash(namespace, replace(wish, labels={}))


def _check_name(transaction: Transaction, namespace: str, name: str) -> None:
    holder = transaction.named(kept.NAMES, namespace, name)
    if holder is not None:
        raise AlreadyExists(
            f"begin container {name}: the name is taken in namespace {namespace}",
            cause=f"container {holder.name[:SHORT_ID_LENGTH]} has it",
            next_step=f"choose another --name, or `hythe rm {name}`",
            details={"kind": "container", "id": holder.name},
        )


def _digest_of(transaction: Transaction, namespace: str, reference: str) -> str:
    found = images.find(transaction, Key(images.KIND, namespace, reference))
    return found.digest if found else ""


def _desired(record: ContainerRecord, desired: Desired, transaction: Transaction) -> ContainerRecord:
    moment = transaction.moment
    return replace(record, desired=desired, era=moment.era, epoch_revision=moment.revision, revision=moment.revision)


def _from_answer(text: str) -> ContainerRecord:
    return record_of(ContainerRecord, text)
