"""Records of intent about containers and images, who asks for their change, and what is wished for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Desired = Literal["running", "stopped", "removed"]
Phase = Literal["creating", "created", "removing"]
FinishOutcome = Literal["created", "removing", "absent"]

ALL_NAMESPACES = ""

LATER = {"later": True}
"""Marks fields that a wish got after its first form: where they are at their default the request is the one of before."""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks for a change: taken from the request's subject and headers, never from its body.

    Attributes:
        namespace: namespace that the change belongs to.
        caller: name of the key that asked, fixed by its permissions.
        request_id: the same for every repetition of one request; empty when repetitions need not be known.
        trace_id: 32 hex digits, or empty.
    """

    namespace: str
    caller: str = ""
    request_id: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerWish:
    """A container to be begun. `spec` is JSON text that the store keeps and never reads; `lease_s` counts from now.

    Attributes:
        runtime: name of the runtime; empty for the host's default.
        snapshotter: name of the snapshotter; empty for the host's.
    """

    id: str
    name: str
    reference: str
    digest: str | None
    host: str
    spec: str
    lease_s: float = 60.0
    labels: Mapping[str, str] = field(default_factory=dict, metadata=LATER)
    runtime: str = field(default="", metadata=LATER)
    snapshotter: str = field(default="", metadata=LATER)


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """Intent about one container.

    Attributes:
        digest: digest of the image's root manifest or index; empty only for a container of a bundle directory.
        spec: JSON text as it was given.
        era: era of the store when the desired state was last set; with `epoch_revision` the epoch of commands.
        epoch_revision: revision of the store at the last change of the desired state.
        revision: revision of the store at the last change of this record.
        created_at, updated_at: RFC 3339 UTC.
        lease_expired: the record is still ``creating`` and its lease has run out: somebody must settle it.
    """

    id: str
    namespace: str
    name: str
    reference: str
    digest: str
    host: str
    spec: str
    desired: Desired
    phase: Phase
    era: int
    epoch_revision: int
    revision: int
    created_at: str
    updated_at: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    snapshotter: str = ""
    lease_expired: bool = False

    @property
    def snapshot_key(self) -> str:
        """Name of its snapshot on its host."""
        return self.id


@dataclass(frozen=True, slots=True)
class ImageWish:
    """A name to be pointed at a root manifest or index; `if_revision` 0 means: only if there is no such name.

    Attributes:
        lease: a lease that ends in the same transaction, for the name keeps from now on what it kept.
        labels: they take the place of those that the name has; None leaves them.
    """

    reference: str
    digest: str
    media_type: str
    size_bytes: int
    if_revision: int | None = None
    lease: str = field(default="", metadata=LATER)
    labels: Mapping[str, str] | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image name and what it points to. Times are RFC 3339 UTC."""

    namespace: str
    reference: str
    digest: str
    media_type: str
    size_bytes: int
    revision: int
    created_at: str
    updated_at: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page(Generic[RecordT]):
    """Part of a list; `next` is the `after` of the following part, empty at the end."""

    records: tuple[RecordT, ...]
    next: str = ""
