"""Which host has which named volume. The volumes themselves are bundle's, on their host; here is where to look for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe.errors import AlreadyExists, InvalidArgument
from hythe.filters import Field, fields_of
from hythe.identifiers import check_namespace, is_host
from hythe.labels import check_labels, merged
from hythe.ports.metadata import ALL_NAMESPACES, Origin, Page
from hythe_metadata import labelled, namespaces
from hythe_metadata.labelled import LabelWish, RemoveWish, body_of, relabelled
from hythe_metadata.records import Key, Read, Transaction, Work

KIND = "volume"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """That a host has a volume. Times are RFC 3339 UTC."""

    namespace: str
    name: str
    revision: int
    created_at: str
    updated_at: str
    host: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeWish:
    """A volume of a host to be recorded."""

    name: str
    host: str
    labels: Mapping[str, str] = field(default_factory=dict)


def record(origin: Origin, wish: VolumeWish) -> Work[VolumeRecord]:
    """Record that a host has a volume; repeating it changes nothing.

    Raises:
        InvalidArgument: the namespace, a name or a label breaks its rule.
        AlreadyExists: (of the work) another host has a volume of that name.
    """
    check_labels(wish.labels)
    key = _key(origin.namespace, wish.name)
    if not is_host(wish.host):
        raise InvalidArgument(f"record volume {wish.name}: {wish.host[:100]!r} is not the name of a host")

    def work(transaction: Transaction) -> VolumeRecord:
        stored, moment = transaction.get(key), transaction.moment
        if stored is None:
            labels = merged({}, wish.labels)
            made = VolumeRecord(key.namespace, key.name, moment.revision, moment.time, moment.time, wish.host, labels)
            namespaces.ensure(transaction, origin, key.namespace)
            transaction.put(key, body_of(made))
            return made
        present = labelled.kept(VolumeRecord, stored)
        if present.host != wish.host:
            raise AlreadyExists(
                f"record volume {wish.name} of host {wish.host}: host {present.host} has one of that name",
                next_step="choose another name",
                details={"kind": KIND, "host": present.host},
            )
        changed = relabelled(transaction, key, present, LabelWish(wish.name, wish.labels))
        if changed is not present:
            transaction.put(key, body_of(changed))
        return changed

    return work


def get(namespace: str, name: str) -> Read[VolumeRecord]:
    """Return where a volume is.

    Raises:
        InvalidArgument: the namespace or the name breaks its rule.
        NotFound: (of the question) no host is known to have it.
    """
    key = _key(namespace, name)
    return lambda view: labelled.found(view, key, VolumeRecord, "hythe volume ls")


def list_all(namespace: str, after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[VolumeRecord]]:
    """List the volumes of a namespace, or of `ALL_NAMESPACES`, by name; see `hythe_metadata.labelled.pages`."""
    where = None if namespace == ALL_NAMESPACES else check_namespace(namespace)
    return labelled.pages(
        KIND, where, after, limit, filters, lambda _, stored: labelled.kept(VolumeRecord, stored), _fields
    )


def label(origin: Origin, wish: LabelWish) -> Work[VolumeRecord]:
    """Change labels; see `hythe_metadata.labelled.label`.

    Raises:
        InvalidArgument: the namespace, the name or a label breaks its rule.
    """
    return labelled.label(origin, _key(origin.namespace, wish.name), wish, VolumeRecord, "hythe volume ls")


def remove(origin: Origin, wish: RemoveWish) -> Work[None]:
    """Forget where a volume is, which itself stays; see `hythe_metadata.labelled.remove`.

    Raises:
        InvalidArgument: the namespace or the name breaks its rule.
    """
    return labelled.remove(origin, _key(origin.namespace, wish.name), wish, VolumeRecord, "hythe volume ls")


def _key(namespace: str, name: str) -> Key:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"check volume name {name[:100]!r}: expected a letter or digit, and up to 199 more of these and of _.-"
        )
    return Key(KIND, check_namespace(namespace), name)


def _fields(volume: VolumeRecord) -> Field:
    return fields_of({"name": volume.name, "host": volume.host}, volume.labels.get)
