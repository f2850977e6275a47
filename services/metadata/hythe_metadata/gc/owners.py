"""The port of owners: who keeps content and snapshots on each host, and what a collection asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hythe.gc_trust import StoreMark
from hythe_metadata.contents import Told

Owner = Literal["distribution", "bundle"]
OWNERS: tuple[Owner, ...] = ("distribution", "bundle")
PAGE = 2000
"""Most digests of one sweep, and records of one page."""
MOST_ROOTS = 4096
"""Most snapshots that one request names as roots."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An owner that has begun to note what is used; see `hythe.wire.gc.GcBegun`."""

    instance: str
    trusted: bool
    reason: str = ""
    shared: str = ""
    snapshotter: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which collection a sweep belongs to, and whether it only tells what would go."""

    generation: int
    instance: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, or would do; see `hythe.wire.gc.GcSwept`."""

    removed: Sequence[str] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    freed_bytes: int = 0
    carried_out: bool = False
    next: str = ""


@dataclass(frozen=True, slots=True)
class ToldPage:
    """What changed of an owner's content; `next` is where the next page begins, `more`: there is one."""

    told: Sequence[Told]
    next: int
    more: bool


@dataclass(frozen=True, slots=True)
class SnapshotReference:
    """What a label of a snapshot refers to; `back`: what it names refers to the snapshot."""

    snapshot: str
    kind: str
    name: str
    via: str
    back: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotLink:
    """A snapshot, what it lies on, and why its owner keeps it by itself."""

    name: str
    parent: str = ""
    held: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """What an owner of snapshots knows of one of them; see `hythe.wire.gc.GcExplained`."""

    snapshotter: str
    size_bytes: int = 0
    snapshots: Sequence[SnapshotLink] = ()
    references: Sequence[SnapshotReference] = ()


@dataclass(frozen=True, slots=True)
class HostUsage:
    """How much of a kind of thing there is on a host; sizes in bytes."""

    kind: str
    total: int
    active: int = 0
    size_bytes: int = 0
    reclaimable_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostUsages:
    """All of a host; so many things that are `unmeasured` count with 0 bytes."""

    rows: Sequence[HostUsage]
    unmeasured: int = 0


class Owners(Protocol):
    """The owners of all hosts.

    Every method may raise Unavailable or DeadlineExceeded (the owner isn't there), FailedPrecondition (the collection isn't
    the one that has begun in this life of the owner's process), or another HytheError of the owner.
    """

    async def begin(self, host: str, owner: Owner, mark: StoreMark) -> Begun:
        """Begin a collection at an owner: from then on it notes what is used."""

    async def trust(self, host: str, owner: Owner, mark: StoreMark) -> None:
        """Let an owner trust the store from its next collection on."""

    async def content(self, host: str, after: int, limit: int) -> ToldPage:
        """Return what changed of the content of a host beyond sequence `after`.

        Raises:
            OutOfRange: that isn't known any more; all is, from 0.
        """

    async def sweep_content(self, host: str, sweep: Sweep, namespace: str, digests: Sequence[str]) -> Swept:
        """Take at most `PAGE` blobs out of a namespace; `next` is the digest to go on with, empty at the end."""

    async def sweep_ingests(self, host: str, sweep: Sweep, keep: Sequence[tuple[str, str]]) -> Swept:
        """Abort what was left of ingests, but for `keep`: (namespace, reference) of at most `MOST_ROOTS`."""

    async def mark_snapshots(
        self, host: str, generation: int, instance: str, roots: Sequence[str]
    ) -> Sequence[SnapshotReference]:
        """Have at most `MOST_ROOTS` snapshots kept, and return what labels of all that is kept so far refer to."""

    async def sweep_snapshots(self, host: str, sweep: Sweep, after: str) -> Swept:
        """Remove some of the snapshots that aren't marked, children first; `next` is the `after` of the next request."""

    async def explain(self, host: str, name: str) -> Explained:
        """Return what lies above a snapshot, and what labels of all snapshots refer to; of an empty name only the last."""

    async def usage(self, host: str, roots: Sequence[str] | None) -> HostUsages:
        """Return how much a host has of what; `roots` are snapshots that are in use, None for all."""
