"""What becomes of namespaces: containerd's rules, and that a namespace comes to be with the first record in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from hythe.filters import Field, fields_of
from hythe.identifiers import check_namespace
from hythe.labels import check_labels, merged
from hythe.ports.metadata import Origin, Page
from hythe_metadata.changes import Happening, Past, body_hash
from hythe_metadata.labelled import (
    LabelWish,
    RemoveWish,
    answer_of,
    body_of,
    check_revision,
    counted,
    found,
    kept,
    nothing,
    pages,
    record_of,
    relabelled,
)
from hythe_metadata.records import NO_NAMESPACE, Key, Read, Stored, Transaction, View, Work
from hythe_metadata.repeats import once

KIND = "namespace"
DEFAULT_SNAPSHOTTER = "containerd.io/defaults/snapshotter"
DEFAULT_RUNTIME = "containerd.io/defaults/runtime"
SNAPSHOTTERS = ("overlayfs", "native")


@dataclass(frozen=True, slots=True)
class NamespaceRecord:
    """A namespace; `records` counts what it has by kind. Times are RFC 3339 UTC."""

    name: str
    revision: int
    created_at: str
    updated_at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateWish:
    """A namespace to be made, as far as repetitions of the request must agree."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def create(origin: Origin, wish: CreateWish) -> Work[NamespaceRecord]:
    """Make a namespace, once per request id.

    Raises:
        InvalidArgument: its name or a label breaks its rule.
        AlreadyExists: (of the work) there is one of that name.
    """
    _check_labels(wish.labels)
    key = _key(wish.name)

    def work(transaction: Transaction) -> NamespaceRecord:
        if transaction.get(key) is not None:
            raise AlreadyExists(
                f"create namespace {wish.name}: there is one",
                next_step=f"`hythe namespace label {wish.name} KEY=VALUE` changes its labels",
                details={"kind": KIND},
            )
        return _make(transaction, origin, wish.name, merged({}, wish.labels))

    return once(origin, "namespace.create", body_hash("", wish), answer_of, _from_answer, work)


def ensure(transaction: Transaction, origin: Origin, namespace: str) -> None:
    """Make the namespace if it has no record; whatever puts a record into one calls this, in the same transaction."""
    if transaction.get(Key(KIND, NO_NAMESPACE, namespace)) is None:
        _make(transaction, origin, namespace, {})


def get(name: str) -> Read[NamespaceRecord]:
    """Return a namespace.

    Raises:
        InvalidArgument: it can't be the name of one.
        NotFound: (of the question) there is none.
    """
    key = _key(name)
    return lambda view: _found(view, key)


def list_all(after: str, limit: int, filters: Sequence[str] = ()) -> Read[Page[NamespaceRecord]]:
    """List namespaces by name; see `hythe_metadata.labelled.pages`."""
    return pages(KIND, NO_NAMESPACE, after, limit, filters, _read, _fields)


def label(origin: Origin, wish: LabelWish) -> Work[NamespaceRecord]:
    """Change labels, once per request id.

    Raises:
        InvalidArgument: the name or a label breaks its rule.
        NotFound: (of the work) there is no such namespace.
        Conflict: (of the work) it isn't at `if_revision` any more.
    """
    _check_labels(wish.labels)
    key = _key(wish.name)

    def work(transaction: Transaction) -> NamespaceRecord:
        present = _found(transaction, key)
        record = relabelled(transaction, key, present, wish)
        if record is not present:
            transaction.put(key, body_of(record, "records"))
            _tell(transaction, origin, record, "updated")
        return record

    return once(origin, "namespace.label", body_hash("", wish), answer_of, _from_answer, work)


def remove(origin: Origin, wish: RemoveWish) -> Work[None]:
    """Remove a namespace that has nothing in it, once per request id.

    Raises:
        InvalidArgument: it can't be the name of one.
        NotFound: (of the work) there is none.
        Conflict: (of the work) it isn't at `if_revision` any more.
        FailedPrecondition: (of the work) there is something in it, which is counted.
    """
    key = _key(wish.name)

    def work(transaction: Transaction) -> None:
        present = _found(transaction, key)
        check_revision(f"remove namespace {wish.name}", wish.if_revision, present.revision)
        if present.records:
            raise FailedPrecondition(
                f"remove namespace {wish.name}: it is not empty",
                cause=f"it has {counted(present.records)}",
                next_step=f"remove what `hythe -n {wish.name} ps --all`, `images` and `lease ls` show, then `hythe gc`",
                details={kind: str(count) for kind, count in present.records.items()},
            )
        transaction.delete(key)
        _tell(transaction, origin, present, "deleted")

    return once(origin, "namespace.remove", body_hash("", wish), nothing, lambda _: None, work)


def _key(name: str) -> Key:
    return Key(KIND, NO_NAMESPACE, check_namespace(name))


def _check_labels(labels: Mapping[str, str]) -> None:
    check_labels(labels)
    snapshotter, runtime = labels.get(DEFAULT_SNAPSHOTTER, ""), labels.get(DEFAULT_RUNTIME, "")
    if snapshotter and snapshotter not in SNAPSHOTTERS:
        raise InvalidArgument(
            f"check label {DEFAULT_SNAPSHOTTER}: there is no snapshotter {snapshotter[:100]!r}",
            next_step=f"choose one of {', '.join(SNAPSHOTTERS)}",
        )
    if runtime:
        try:
            check_namespace(runtime)  # containerd has one rule for all identifiers
        except InvalidArgument as error:
            raise InvalidArgument(
                f"check label {DEFAULT_RUNTIME}: {runtime[:100]!r} is not the name of a runtime",
                next_step="give a name such as io.containerd.runc.v2",
            ) from error


def _make(transaction: Transaction, origin: Origin, name: str, labels: Mapping[str, str]) -> NamespaceRecord:
    moment = transaction.moment
    record = NamespaceRecord(name, moment.revision, moment.time, moment.time, labels, transaction.occupants(name))
    transaction.put(Key(KIND, NO_NAMESPACE, name), body_of(record, "records"))
    _tell(transaction, origin, record, "created")
    return record


def _tell(transaction: Transaction, origin: Origin, record: NamespaceRecord, past: Past) -> None:
    attributes = {"name": record.name, **{f"labels.{key}": value for key, value in sorted(record.labels.items())}}
    topic = f"/namespaces/{past.removesuffix('d')}"
    transaction.emit(replace(origin, namespace=record.name), Happening(KIND, record.name, past, topic, attributes))


def _read(view: View, stored: Stored) -> NamespaceRecord:
    return _counted(view, kept(NamespaceRecord, stored))


def _found(view: View, key: Key) -> NamespaceRecord:
    return _counted(view, found(view, key, NamespaceRecord, "hythe namespace ls"))


def _counted(view: View, record: NamespaceRecord) -> NamespaceRecord:
    return replace(record, records=dict(view.occupants(record.name)))


def _from_answer(text: str) -> NamespaceRecord:
    return record_of(NamespaceRecord, text)


def _fields(record: NamespaceRecord) -> Field:
    return fields_of({"name": record.name}, record.labels.get)
