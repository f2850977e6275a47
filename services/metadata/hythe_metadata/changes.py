"""What decisions about records share: the moment they are made in, and the events they cause."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from hythe.errors import Conflict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Past = Literal["created", "updated", "deleted"]

REQUEST_MEMORY_S = 86_400.0
PAGE_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is made: wall time as RFC 3339, the revision it will have, the era of the store."""

    time: str
    revision: int
    era: int


@dataclass(frozen=True, slots=True)
class Happening:
    """An event to be stored with a change; the store numbers it. `topic` is containerd's."""

    noun: str
    object_id: str
    past: Past
    topic: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was carried out: what it was, and what was answered (JSON)."""

    kind: str
    body_hash: str
    result: str


def body_hash(namespace: str, body: DataclassInstance) -> str:
    """Return a hash that tells requests of one kind apart by their namespace and content.

    A field marked `hythe.ports.metadata.LATER` counts unless it is at its default: so a request that a service of before
    carried out is known when it is repeated.
    """
    values = {name: getattr(body, name) for name in _names(type(body))}
    for name, default in _later(type(body)):
        if values[name] == default:
            del values[name]
    text = json.dumps([namespace, values], sort_keys=True, separators=(",", ":"), default=_nested)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _later(kind: type[DataclassInstance]) -> tuple[tuple[str, object], ...]:
    later = (field for field in fields(kind) if field.metadata.get("later"))
    return tuple((one.name, one.default if one.default_factory is MISSING else one.default_factory()) for one in later)


def _nested(value: Any) -> object:
    return dict(value) if isinstance(value, Mapping) else asdict(value)


def repeated(answered: Answered | None, kind: str, hashed: str) -> str | None:
    """Return what was answered to this request when it came before, or None if it comes for the first time.

    Raises:
        Conflict: the same request id came with another content.
    """
    if answered is None:
        return None
    if (answered.kind, answered.body_hash) != (kind, hashed):
        raise Conflict(
            f"{kind}: the same request id came before with another content",
            cause=f"it was a {answered.kind}" if answered.kind != kind else "",
            next_step="use a new request id for a new request",
        )
    return answered.result
