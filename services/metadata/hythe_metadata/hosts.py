"""What becomes of hosts: each has one agent, and a second one under its name is refused.

A root directory belongs to one process (flock), so an agent with the root that is registered is the same one, started again;
but for a copy of the root on another machine, whose boot id differs. An agent with another root may have the name
when the one before has fallen silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from hythe.filters import Field, fields_of
from hythe.identifiers import is_host
from hythe.labels import check_labels, merged
from hythe.ports.metadata import Origin, Page
from hythe_metadata import labelled
from hythe_metadata.hosts_seen import FRESH_S, HostsSeen
from hythe_metadata.labelled import LabelWish, RemoveWish, body_of
from hythe_metadata.records import NO_NAMESPACE, Key, Read, Transaction, Work

KIND = "host"
SILENT_S = 30.0
"""After this long without a heartbeat the name of a host is free for an agent with another root."""


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host as its agent registered it last. Times are RFC 3339 UTC.

    Attributes:
        machine_id: of the machine's operating system; empty where it has none.
        boot_id: of the kernel's boot.
        instance: id of the agent's process.
        root_id: id of the agent's root directory, made with it.
        version: of the agent.
    """

    name: str
    revision: int
    created_at: str
    updated_at: str
    registered_at: str
    machine_id: str
    boot_id: str
    instance: str
    root_id: str
    version: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisterWish:
    """An agent that wants to be the one of its host; `labels` are laid over those that the host has."""

    name: str
    machine_id: str
    boot_id: str
    instance: str
    root_id: str
    version: str
    labels: Mapping[str, str] = field(default_factory=dict)


def register(wish: RegisterWish, seen: HostsSeen) -> Work[HostRecord]:
    """Register the agent of a host; again at each start and whenever the bus was away.

    Raises:
        InvalidArgument: the host's name or a label breaks its rule.
        AlreadyExists: (of the work) another agent has the name, and still beats.
    """
    check_labels(wish.labels)
    key = _key(wish.name)

    def work(transaction: Transaction) -> HostRecord:
        moment, stored = transaction.moment, transaction.get(key)
        present = labelled.kept(HostRecord, stored) if stored else None
        if present is not None:
            check_free(present, wish, seen)
        record = HostRecord(
            name=wish.name,
            revision=moment.revision,
            created_at=present.created_at if present else moment.time,
            updated_at=moment.time,
            registered_at=moment.time,
            machine_id=wish.machine_id,
            boot_id=wish.boot_id,
            instance=wish.instance,
            root_id=wish.root_id,
            version=wish.version,
            labels=merged(present.labels if present else {}, wish.labels),
        )
        if present is not None and _who(present) == _who(record) and present.labels == record.labels:
            return present
        transaction.put(key, body_of(record))
        return record

    return work


def check_free(present: HostRecord, wish: RegisterWish, seen: HostsSeen) -> None:
    """Return if the agent `wish` may take the place of `present`.

    Raises:
        AlreadyExists: it is another one, and the one that has the name still beats.
    """
    if wish.instance == present.instance:
        return
    silent_s = seen.silent_s(present.name, present.instance)
    if wish.root_id == present.root_id:
        # Never heard of is as good as silent: after a reboot of the only machine, metadata starts with it.
        taken = wish.boot_id != present.boot_id and silent_s < FRESH_S
    else:
        taken = min(silent_s, seen.listening_s()) < SILENT_S
    if taken:
        same = wish.root_id == present.root_id
        heard = "not heard of since metadata started" if silent_s == float("inf") else f"heard of {silent_s:.0f} s ago"
        raise AlreadyExists(
            f"register host {wish.name}: another agent has this name",
            cause=f"agent {present.instance} of root {present.root_id} on machine {present.machine_id or 'unknown'}, {heard}; "
            f"this is agent {wish.instance} of {'a copy of that' if same else 'root ' + wish.root_id} "
            f"on machine {wish.machine_id or 'unknown'}",
            next_step="give each host a name of its own with HYTHE_HOST"
            + (
                ", and a root of its own"
                if same
                else f"; the name is free {SILENT_S:.0f} s after its agent fell silent"
            ),
            details={"kind": KIND, "instance": present.instance, "root_id": present.root_id},
        )


def get(name: str) -> Read[HostRecord]:
    """Return a host.

    Raises:
        InvalidArgument: it can't be the name of one.
        NotFound: (of the question) there is none.
    """
    key = _key(name)
    return lambda view: labelled.found(view, key, HostRecord, "hythe status")


def list_all(after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[HostRecord]]:
    """List hosts by name; see `hythe_metadata.labelled.pages`."""
    return labelled.pages(
        KIND, NO_NAMESPACE, after, limit, filters, lambda _, stored: labelled.kept(HostRecord, stored), _fields
    )


def label(origin: Origin, wish: LabelWish) -> Work[HostRecord]:
    """Change labels; see `hythe_metadata.labelled.label`.

    Raises:
        InvalidArgument: the name or a label breaks its rule.
    """
    return labelled.label(origin, _key(wish.name), wish, HostRecord, "hythe status")


def remove(origin: Origin, wish: RemoveWish, seen: HostsSeen) -> Work[None]:
    """Forget a host that is gone for good; see `hythe_metadata.labelled.remove`.

    Raises:
        InvalidArgument: it can't be the name of one.
        FailedPrecondition: (of the work) its agent still beats.
    """

    def check() -> None:
        silent_s = seen.silent_s(wish.name)
        if silent_s < SILENT_S:
            raise FailedPrecondition(
                f"remove host {wish.name}: its agent was heard of {silent_s:.0f} s ago",
                next_step=f"stop it, and try again {SILENT_S:.0f} s later",
                details={"kind": KIND},
            )

    return labelled.remove(origin, _key(wish.name), wish, HostRecord, "hythe status", check)


def _key(name: str) -> Key:
    if not is_host(name):
        raise InvalidArgument(f"check host {name[:100]!r}: it is not the name of a host")
    return Key(KIND, NO_NAMESPACE, name)


def _who(record: HostRecord) -> tuple[str, ...]:
    return record.machine_id, record.boot_id, record.instance, record.root_id, record.version


def _fields(record: HostRecord) -> Field:
    values = {
        "name": record.name,
        "machine_id": record.machine_id,
        "boot_id": record.boot_id,
        "root_id": record.root_id,
        "version": record.version,
    }
    return fields_of(values, record.labels.get)
