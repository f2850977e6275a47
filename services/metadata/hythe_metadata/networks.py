"""What becomes of networks as they are intended: each has a name and addresses of its own in the whole cluster."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe.errors import AlreadyExists, InvalidArgument
from hythe.filters import Field, fields_of
from hythe.identifiers import check_container_name
from hythe.labels import check_labels, merged
from hythe.ports.metadata import Origin, Page
from hythe_metadata import labelled
from hythe_metadata.changes import body_hash
from hythe_metadata.labelled import LabelWish, RemoveWish, answer_of, body_of, record_of
from hythe_metadata.records import NO_NAMESPACE, Key, Read, Transaction, View, Work
from hythe_metadata.repeats import once

KIND = "network"
_DRIVER = re.compile(r"[a-z][a-z0-9-]{0,63}")
_Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network. Times are RFC 3339 UTC; `subnet` is a CIDR block, empty for one that nobody has chosen."""

    name: str
    revision: int
    created_at: str
    updated_at: str
    driver: str = "bridge"
    subnet: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """A network to be made."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def create(origin: Origin, wish: NetworkWish) -> Work[NetworkRecord]:
    """Record a network, once per request id; its subnet is kept in its shortest spelling.

    Raises:
        InvalidArgument: name, driver, subnet or a label breaks its rule.
        AlreadyExists: (of the work) there is one of that name, or one with some of the addresses.
    """
    check_labels(wish.labels)
    key = _key(wish.name)
    if not _DRIVER.fullmatch(wish.driver):
        raise InvalidArgument(f"create network {wish.name}: {wish.driver[:100]!r} can't be the name of a driver")
    subnet = parse_subnet(wish.name, wish.subnet) if wish.subnet else None

    def work(transaction: Transaction) -> NetworkRecord:
        if transaction.get(key) is not None:
            raise AlreadyExists(
                f"create network {wish.name}: there is one", next_step="choose another name", details={"kind": KIND}
            )
        if subnet is not None:
            _check_overlap(transaction, wish.name, subnet)
        moment = transaction.moment
        text = str(subnet) if subnet is not None else ""
        labels = merged({}, wish.labels)
        record = NetworkRecord(wish.name, moment.revision, moment.time, moment.time, wish.driver, text, labels)
        transaction.put(key, body_of(record))
        return record

    return once(origin, "network.create", body_hash("", wish), answer_of, _from_answer, work)


def get(name: str) -> Read[NetworkRecord]:
    """Return a network.

    Raises:
        InvalidArgument: it can't be the name of one.
        NotFound: (of the question) there is none.
    """
    key = _key(name)
    return lambda view: labelled.found(view, key, NetworkRecord)


def list_all(after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[NetworkRecord]]:
    """List networks by name; see `hythe_metadata.labelled.pages`."""
    return labelled.pages(
        KIND, NO_NAMESPACE, after, limit, filters, lambda _, stored: labelled.kept(NetworkRecord, stored), _fields
    )


def label(origin: Origin, wish: LabelWish) -> Work[NetworkRecord]:
    """Change labels; see `hythe_metadata.labelled.label`.

    Raises:
        InvalidArgument: the name or a label breaks its rule.
    """
    return labelled.label(origin, _key(wish.name), wish, NetworkRecord)


def remove(origin: Origin, wish: RemoveWish) -> Work[None]:
    """Forget a network; see `hythe_metadata.labelled.remove`.

    Raises:
        InvalidArgument: it can't be the name of one.
    """
    return labelled.remove(origin, _key(wish.name), wish, NetworkRecord)


def parse_subnet(name: str, text: str) -> _Subnet:
    """Return the addresses of a network that `text` spells as CIDR.

    Raises:
        InvalidArgument: it spells none, names an address within it, or has no room for a gateway and a container.
    """
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidArgument(
            f"create network {name}: {text[:100]!r} is not a subnet",
            cause=str(error),
            next_step="write e.g. 10.88.0.0/16",
        ) from error
    if "/" not in text or subnet.num_addresses < 4:
        raise InvalidArgument(
            f"create network {name}: {text[:100]!r} has no room for containers", next_step="write e.g. 10.88.0.0/16"
        )
    return subnet


def _check_overlap(view: View, name: str, subnet: _Subnet) -> None:
    for stored in view.scan(KIND, NO_NAMESPACE):
        other = labelled.kept(NetworkRecord, stored)
        taken = ipaddress.ip_network(other.subnet) if other.subnet else None
        if taken is not None and taken.version == subnet.version and taken.overlaps(subnet):
            raise AlreadyExists(
                f"create network {name}: {subnet} overlaps {taken} of network {other.name}",
                next_step="choose other addresses",
                details={"kind": KIND, "name": other.name},
            )


def _key(name: str) -> Key:
    return Key(KIND, NO_NAMESPACE, check_container_name(name, "network name"))


def _from_answer(text: str) -> NetworkRecord:
    return record_of(NetworkRecord, text)


def _fields(record: NetworkRecord) -> Field:
    return fields_of({"name": record.name, "driver": record.driver, "subnet": record.subnet}, record.labels.get)
