"""What becomes of leases: they keep what they name, and unless they are flat what that refers to, from being collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hythe.errors import AlreadyExists
from hythe.filters import Field, fields_of
from hythe.identifiers import check_namespace, new_id
from hythe.labels import check_labels, merged
from hythe.ports.metadata import ALL_NAMESPACES, Origin, Page
from hythe_metadata import namespaces
from hythe_metadata.changes import Moment, body_hash
from hythe_metadata.labelled import answer_of, body_of, pages
from hythe_metadata.lease_clock import LeaseClock, check_expire
from hythe_metadata.lease_records import (
    KIND,
    LeaseRecord,
    Resource,
    check_resources,
    expired,
    found,
    from_answer,
    key_of,
    mark_of,
    not_found,
    read,
)
from hythe_metadata.records import Edge, Key, Read, Transaction, Work
from hythe_metadata.repeats import once

VIA = "resource"
"""Where the edges of leases come from."""


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """A lease to be made; without an id it gets a random one."""

    id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    duration_s: float | None = None
    resources: tuple[Resource, ...] = ()


def create(origin: Origin, wish: LeaseWish) -> Work[LeaseRecord]:
    """Make a lease, once per request id.

    Raises:
        InvalidArgument: the namespace, the id, a label or a resource breaks its rule.
        AlreadyExists: (of the work) there is one of that id, made by another request.
    """
    check_labels(wish.labels)
    check_expire(wish.labels)
    check_resources(wish.resources)
    key = key_of(origin.namespace, wish.id or new_id())

    def work(transaction: Transaction) -> LeaseRecord:
        if transaction.get(key) is not None:
            raise AlreadyExists(
                f"create lease {key.name}: there is one",
                next_step="give another id, or none for a random one",
                details={"kind": KIND, "id": key.name},
            )
        made = _made(key, transaction.moment, wish.duration_s, merged({}, wish.labels), wish.resources)
        return _put(transaction, origin, made)

    return once(origin, "lease.create", body_hash(origin.namespace, wish), answer_of, from_answer, work)


def get(namespace: str, lease_id: str) -> Read[LeaseRecord]:
    """Return a lease.

    Raises:
        InvalidArgument: the namespace or the id breaks its rule.
        NotFound: (of the question) there is none.
    """
    key = key_of(namespace, lease_id)
    return lambda view: found(view, key)


def list_all(namespace: str, after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[LeaseRecord]]:
    """List the leases of a namespace, or of `ALL_NAMESPACES`, by id; see `hythe_metadata.labelled.pages`."""
    where = None if namespace == ALL_NAMESPACES else check_namespace(namespace)
    return pages(KIND, where, after, limit, filters, lambda _, stored: read(stored), _fields)


def add(origin: Origin, lease_id: str, resources: Sequence[Resource], leases: LeaseClock) -> Work[LeaseRecord]:
    """Let a lease keep more.

    Raises:
        InvalidArgument: the id or a resource breaks its rule.
        NotFound: (of the work) there is none, or it has expired.
    """
    check_resources(resources)
    return _change(origin, lease_id, lambda lease, _: _with(lease, resources), leases)


def drop(origin: Origin, lease_id: str, resources: Sequence[Resource]) -> Work[LeaseRecord]:
    """Let a lease keep these no longer.

    Raises:
        InvalidArgument: the id or a resource breaks its rule.
        NotFound: (of the work) there is none.
    """
    check_resources(resources)
    gone = frozenset(resources)
    return _change(
        origin, lease_id, lambda lease, _: replace(lease, resources=tuple(r for r in lease.resources if r not in gone))
    )


def renew(origin: Origin, lease_id: str, leases: LeaseClock) -> Work[LeaseRecord]:
    """Let the duration of a lease start anew.

    Raises:
        NotFound: (of the work) there is none, or it has expired: what it kept may be gone already.
    """
    return _change(origin, lease_id, lambda lease, moment: replace(lease, renewed=mark_of(moment)), leases)


def label(origin: Origin, lease_id: str, changes: Mapping[str, str]) -> Work[LeaseRecord]:
    """Change labels; one with an empty value is taken away.

    Raises:
        InvalidArgument: the id or a label breaks its rule.
        NotFound: (of the work) there is none.
    """
    check_labels(changes)
    check_expire(changes)
    return _change(origin, lease_id, lambda lease, _: replace(lease, labels=merged(lease.labels, changes)))


def remove(origin: Origin, lease_id: str) -> Work[bool]:
    """End a lease; tell whether there was one."""
    key = key_of(origin.namespace, lease_id)

    def work(transaction: Transaction) -> bool:
        there = transaction.get(key) is not None
        transaction.delete(key)
        return there

    return work


def forget(leases: Sequence[LeaseRecord]) -> Work[list[LeaseRecord]]:
    """Delete leases that have expired, unless somebody changed them since they were read; return those that are gone."""

    def work(transaction: Transaction) -> list[LeaseRecord]:
        gone = []
        for lease in leases:
            key = Key(KIND, lease.namespace, lease.id)
            stored = transaction.get(key)
            if stored is not None and stored.revision == lease.revision:
                transaction.delete(key)
                gone.append(lease)
        return gone

    return work


def hold(
    transaction: Transaction, origin: Origin, lease_id: str, duration_s: float, resources: Sequence[Resource]
) -> LeaseRecord:
    """Make a lease, or let its duration start anew, and let it keep `resources` beside what it keeps."""
    key = key_of(origin.namespace, lease_id)
    stored = transaction.get(key)
    if stored is None:
        return _put(transaction, origin, _made(key, transaction.moment, duration_s, {}, resources))
    renewed = replace(_with(read(stored), resources), renewed=mark_of(transaction.moment))
    return _put(transaction, origin, _changed(renewed, transaction.moment))


def _made(
    key: Key, moment: Moment, duration_s: float | None, labels: Mapping[str, str], resources: Iterable[Resource]
) -> LeaseRecord:
    return LeaseRecord(
        key.namespace,
        key.name,
        moment.revision,
        moment.time,
        moment.time,
        mark_of(moment),
        labels,
        duration_s,
        tuple(dict.fromkeys(resources)),
    )


def _with(lease: LeaseRecord, resources: Iterable[Resource]) -> LeaseRecord:
    return replace(lease, resources=tuple(dict.fromkeys((*lease.resources, *resources))))


def _changed(lease: LeaseRecord, moment: Moment) -> LeaseRecord:
    return replace(lease, revision=moment.revision, updated_at=moment.time)


def _change(
    origin: Origin,
    lease_id: str,
    change: Callable[[LeaseRecord, Moment], LeaseRecord],
    living_by: LeaseClock | None = None,
) -> Work[LeaseRecord]:
    key = key_of(origin.namespace, lease_id)

    def work(transaction: Transaction) -> LeaseRecord:
        present = found(transaction, key)
        if living_by is not None and expired(present, living_by):
            raise not_found(key, "it has expired")
        changed = change(present, transaction.moment)
        return present if changed == present else _put(transaction, origin, _changed(changed, transaction.moment))

    return work


def _put(transaction: Transaction, origin: Origin, lease: LeaseRecord) -> LeaseRecord:
    namespaces.ensure(transaction, origin, lease.namespace)
    edges = [Edge(resource.kind, resource.name, VIA) for resource in lease.resources]
    transaction.put(Key(KIND, lease.namespace, lease.id), body_of(lease), edges=edges)
    return lease


def _fields(lease: LeaseRecord) -> Field:
    return fields_of({"id": lease.id}, lease.labels.get)
