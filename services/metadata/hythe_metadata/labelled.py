"""What records with labels have in common: how they are kept, changed by compare-and-set, and listed by filters in pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from hythe.errors import Conflict, InvalidArgument, NotFound
from hythe.filters import Field, parse_filters
from hythe.labels import check_labels, merged
from hythe.ports.metadata import Origin, Page
from hythe_metadata.changes import PAGE_BYTES, body_hash
from hythe_metadata.records import Key, Read, Stored, Transaction, View, Work
from hythe_metadata.repeats import once

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
RecordT = TypeVar("RecordT", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class LabelWish:
    """Labels to be set, or taken away where the value is empty; with `if_revision` only if nobody was faster."""

    name: str
    labels: Mapping[str, str]
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveWish:
    """A record to be removed; with `if_revision` only if nobody changed it since."""

    name: str
    if_revision: int | None = None


class Labelled(Protocol):
    """A record that has labels."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def revision(self) -> int:
        """Revision of the store at its last change."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""


LabelledT = TypeVar("LabelledT", bound=Labelled)

OUTSIDE = frozenset({"namespace", "name", "id", "digest", "revision"})
"""Fields of a record that its key and its revision say, so that its body doesn't."""


def body_of(record: DataclassInstance, *outside: str) -> str:
    """Return the body under which `record` is kept; `outside` names more fields that don't belong into it."""
    return _json({key: value for key, value in _values(record).items() if key not in OUTSIDE and key not in outside})


def record_of(model: type[RecordT], body: str, **outside: Any) -> RecordT:
    """Return the record that `body_of` made a body of; what `model` doesn't know, as from a newer version, is left out."""
    known = _names(model)
    values = {key: value for key, value in json.loads(body).items() if key in known}
    return model(**{**values, **outside})


def kept(model: type[RecordT], stored: Stored) -> RecordT:
    """Return the record that is stored, of which its key and revision say a part."""
    outside = {"namespace": stored.key.namespace, "name": stored.key.name, "revision": stored.revision}
    known = _names(model)
    return record_of(model, stored.body, **{key: value for key, value in outside.items() if key in known})


def answer_of(record: DataclassInstance) -> str:
    """Return `record` as text to be kept as the answer to a request (`hythe_metadata.repeats.once`)."""
    return _json(_values(record))


@cache
def _names(model: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(model))


def _values(record: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a record, not copied; what is in them is made JSON by `_nested`."""
    return {name: getattr(record, name) for name in _names(type(record))}


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=_nested)


def _nested(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return _values(value)  # type: ignore[arg-type]  # what isn't a record has no fields, and says so


def nothing(_: object) -> str:
    """As `answer_of`, for requests that are answered by nothing."""
    return ""


def relabelled(transaction: Transaction, key: Key, present: LabelledT, wish: LabelWish) -> LabelledT:
    """Return `present` after a change of its labels, at the revision of this transaction; itself where nothing changes.

    Raises:
        Conflict: it isn't at the revision that `wish` expects.
    """
    check_revision(f"label {key.kind} {key.name}", wish.if_revision, present.revision)
    labels = merged(present.labels, wish.labels)
    if labels == present.labels:
        return present
    moment = transaction.moment
    changed: LabelledT = replace(present, labels=labels, revision=moment.revision, updated_at=moment.time)
    return changed


def found(view: View, key: Key, model: type[RecordT], command: str = "") -> RecordT:
    """Return a record that must be there.

    Raises:
        NotFound: it isn't; `command` lists those that are.
    """
    stored = view.get(key)
    if stored is None:
        raise NotFound(
            f"find {key.kind} {key.name}: there is none of that name",
            next_step=f"`{command}` lists them" if command else "",
            details={"kind": key.kind},
        )
    return kept(model, stored)


def label(origin: Origin, key: Key, wish: LabelWish, model: type[LabelledT], command: str = "") -> Work[LabelledT]:
    """Change labels of a record that is a `model`, once per request id.

    Raises:
        InvalidArgument: a label breaks its rule.
        NotFound: (of the work) there is no such record.
        Conflict: (of the work) it isn't at the revision that `wish` expects.
    """
    check_labels(wish.labels)

    def work(transaction: Transaction) -> LabelledT:
        present: LabelledT = found(transaction, key, model, command)
        changed = relabelled(transaction, key, present, wish)
        if changed is not present:
            transaction.put(key, body_of(changed))
        return changed

    hashed = body_hash(origin.namespace, wish)
    return once(origin, f"{key.kind}.label", hashed, answer_of, lambda text: record_of(model, text), work)


def remove(
    origin: Origin,
    key: Key,
    wish: RemoveWish,
    model: type[LabelledT],
    command: str = "",
    check: Callable[[], None] = lambda: None,
) -> Work[None]:
    """Delete a record that is a `model`, once per request id, if `check`, which may raise, has nothing against it.

    Raises:
        NotFound: (of the work) there is no such record.
        Conflict: (of the work) it isn't at the revision that `wish` expects.
    """

    def work(transaction: Transaction) -> None:
        present: LabelledT = found(transaction, key, model, command)
        check_revision(f"remove {key.kind} {key.name}", wish.if_revision, present.revision)
        check()
        transaction.delete(key)

    hashed = body_hash(origin.namespace, wish)
    return once(origin, f"{key.kind}.remove", hashed, nothing, lambda _: None, work)


def check_revision(step: str, wanted: int | None, present: int) -> None:
    """Return if `present` is the revision that somebody expects, or nobody expects one.

    Raises:
        Conflict: it is another (details ``revision``).
    """
    if wanted is not None and wanted != present:
        raise Conflict(
            f"{step}: expected revision {wanted}, it is at {present}",
            next_step="look at what it is now, and decide again",
            details={"revision": str(present)},
        )


def pages(
    kind: str,
    namespace: str | None,
    after: str,
    limit: int,
    filters: Sequence[str],
    read: Callable[[View, Stored], T],
    field: Callable[[T], Field],
    bulk_bytes: Callable[[Stored], int] = lambda stored: 0,
) -> Read[Page[T]]:
    """Return what lists records of a kind by name: at most `limit`, and beyond one no more than `PAGE_BYTES` of bodies.

    Args:
        namespace: None for all; they come by namespace and name, and `after` is both, joined by a space.
        filters: containerd's; records that match one of them are listed.
        read: makes a record of what is stored.
        field: gives a record's fields to the filters.
        bulk_bytes: what a record has beside its body in an answer.

    Raises:
        InvalidArgument: a filter can't be read (the message has the position), or `after` isn't the `next` of a page.
    """
    wanted = parse_filters(filters)
    if namespace is None and after and " " not in after:
        raise InvalidArgument(f"list {kind} records of all namespaces: {after[:100]!r} is not the `next` of a page")

    def listed(view: View) -> Page[T]:
        taken: list[T] = []
        size, last = 0, ""
        for stored in view.scan(kind, namespace, after):
            record = read(view, stored)
            if not wanted.matches(field(record)):
                continue
            size += len(stored.body) + bulk_bytes(stored)
            if len(taken) == limit or (taken and size > PAGE_BYTES):
                return Page(tuple(taken), last)
            taken.append(record)
            last = stored.key.name if namespace is not None else f"{stored.key.namespace} {stored.key.name}"
        return Page(tuple(taken))

    return listed


def counted(occupants: Mapping[str, int]) -> str:
    """Return how many records of which kinds there are, in words: ``1 container, 3 images``."""
    words = {"content": "blob"}
    return ", ".join(
        f"{count} {words.get(kind, kind)}{'' if count == 1 else 's'}" for kind, count in sorted(occupants.items())
    )
