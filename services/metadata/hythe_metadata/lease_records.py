"""What a lease is, how it is kept, and whether it has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hythe import clock
from hythe.digest import parse_digest
from hythe.errors import InvalidArgument, NotFound
from hythe.identifiers import check_namespace
from hythe.labels import GC_FLAT
from hythe_metadata.changes import Moment
from hythe_metadata.labelled import record_of
from hythe_metadata.lease_clock import LeaseClock, ends_at_ns
from hythe_metadata.records import Key, Stored, View

KIND = "lease"
MAX_NAME = 1024
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")
_RESOURCE_KIND = re.compile(r"content|ingest|image|snapshot/[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """Something that a lease keeps: ``content``, ``ingest``, ``image`` or ``snapshot/<snapshotter>``, and its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease. Times are RFC 3339 UTC.

    Attributes:
        renewed: era and revision of the store when its life began, or last began anew.
        duration_s: None where it ends by its label ``containerd.io/gc.expire``, or never.
    """

    namespace: str
    id: str
    revision: int
    created_at: str
    updated_at: str
    renewed: str
    labels: Mapping[str, str] = field(default_factory=dict)
    duration_s: float | None = None
    resources: tuple[Resource, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether it keeps only what it names, and not what that refers to."""
        return bool(self.labels.get(GC_FLAT))


def left_s(lease: LeaseRecord, leases: LeaseClock, wall_ns: Callable[[], int] = clock.now_ns) -> float | None:
    """Return how many seconds are left to a lease, none or fewer if it has expired; None if it doesn't end."""
    ends_ns = ends_at_ns(lease.labels)
    ends = [] if ends_ns is None else [(ends_ns - wall_ns()) / 1e9]
    if lease.duration_s is not None:
        ends.append(leases.left_s(f"{KIND} {lease.namespace} {lease.id}", lease.renewed, lease.duration_s))
    return min(ends, default=None)


def expired(lease: LeaseRecord, leases: LeaseClock, wall_ns: Callable[[], int] = clock.now_ns) -> bool:
    """Tell whether a lease keeps nothing any more."""
    left = left_s(lease, leases, wall_ns)
    return left is not None and left <= 0


def read(stored: Stored) -> LeaseRecord:
    """Return the lease that is stored."""
    return _from(stored.body, namespace=stored.key.namespace, id=stored.key.name, revision=stored.revision)


def from_answer(text: str) -> LeaseRecord:
    """Return the lease that was kept as the answer to a request."""
    return _from(text)


def key_of(namespace: str, lease_id: str) -> Key:
    """Return the key of a lease.

    Raises:
        InvalidArgument: the namespace or the id breaks its rule.
    """
    if not _ID.fullmatch(lease_id):
        raise InvalidArgument(
            f"check lease id {lease_id[:140]!r}: expected a letter or digit, and up to 127 more of these and of ._:/+-"
        )
    return Key(KIND, check_namespace(namespace), lease_id)


def found(view: View, key: Key) -> LeaseRecord:
    """Return a lease that must be there.

    Raises:
        NotFound: it isn't.
    """
    stored = view.get(key)
    if stored is None:
        raise not_found(key, "there is none of that id")
    return read(stored)


def not_found(key: Key, why: str) -> NotFound:
    """Return the error for a lease that isn't there, or is of no use any more."""
    return NotFound(
        f"find lease {key.name} in namespace {key.namespace}: {why}",
        next_step="`hythe lease ls` lists them, `hythe lease create` makes one",
        details={"kind": KIND},
    )


def check_resources(resources: Iterable[Resource]) -> None:
    """Return if a lease can keep all of these.

    Raises:
        InvalidArgument: one is of no known kind, or its name can't be one.
    """
    for resource in resources:
        if not _RESOURCE_KIND.fullmatch(resource.kind):
            raise InvalidArgument(
                f"check resource {resource.kind[:100]!r}: there is no such kind",
                next_step="kinds are content, image, ingest and snapshot/<snapshotter>",
            )
        if not 0 < len(resource.name) <= MAX_NAME:
            raise InvalidArgument(f"check resource {resource.kind}: its name has {len(resource.name)} characters")
        if resource.kind == "content":
            parse_digest(resource.name)


def mark_of(moment: Moment) -> str:
    """Return what tells a life of a lease that begins now from all others; see `LeaseRecord.renewed`."""
    return f"{moment.era}.{moment.revision}"


def _from(text: str, **outside: Any) -> LeaseRecord:
    lease = record_of(LeaseRecord, text, **outside)
    kept: tuple[Any, ...] = lease.resources  # objects of JSON
    return replace(lease, resources=tuple(Resource(one["kind"], one["name"]) for one in kept))
