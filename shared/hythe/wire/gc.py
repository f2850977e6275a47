"""Garbage collection: what metadata asks the owners of content and snapshots.

A collection has a generation. Metadata first says ``gc.begin`` to every owner: from then on an owner notes what is ensured,
read, asked for or made. Then it reads its own graph, marks, and asks owners for theirs; last it sends ``gc.sweep`` with what
nothing refers to. An owner refuses what it noted since, what its own work needs, a store that it doesn't trust, and a generation
that isn't the one begun in this life of its process. So nothing is locked while others are asked, and whatever was
referred to before it was asked for stays (ARCHITECTURE §7).

On host subjects: ``distribution.gc.begin|list|sweep|ingests|trust``, ``bundle.gc.begin|mark|sweep|trust|explain|usage``. What
commands ask metadata is in `hythe.wire.garbage`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request

Generation = Annotated[int, Field(ge=1)]


class StoreMark(Reply):
    """Which metadata store speaks, and how far it is: owners trust no other, and none that went back."""

    store_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    era: Annotated[int, Field(ge=1)]
    revision: Annotated[int, Field(ge=0)] = 0
    generation: Annotated[int, Field(ge=0)] = 0


class GcBegin(Request):
    """``gc.begin``: a collection of ``store.generation`` begins; note from now on what is used. Result: `GcBegun`.

    `process` is the instance of the metadata service that begins it: two that begin one generation tell of two histories.
    """

    store_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    era: Annotated[int, Field(ge=1)]
    revision: Annotated[int, Field(ge=0)]
    generation: Generation
    process: Annotated[str, Field(max_length=64)] = ""


class GcBegun(Reply):
    """Whether the owner would delete for this store.

    Attributes:
        instance: id of this life of the owner's process for this store; a sweep names it.
        trusted: sweeps of this store are carried out; otherwise they only say what would go.
        reason: why not: ``unknown store``, ``restored store``, ``older store``.
        shared: id of a content store that several hosts share (S3); empty for one of this host alone.
        snapshotter: name of the snapshotter, from bundle.
    """

    instance: str
    trusted: bool
    reason: str = ""
    shared: str = ""
    snapshotter: str = ""


class GcTrust(Request):
    """``gc.trust``: an operator confirms that sweeps of this store may delete here. Result: `Empty`."""

    store_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    era: Annotated[int, Field(ge=1)]
    revision: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=0)]
    process: Annotated[str, Field(max_length=64)] = ""


class GcContentList(Request):
    """``distribution.gc.list``: records of content in all namespaces that changed beyond sequence `after`, by sequence.

    `after` 0 asks for all. OutOfRange if it can't be told any more what changed since: ask for all. Result: `GcContentPage`.
    """

    after: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(gt=0, le=2000)] = 1000


class GcContent(Reply):
    """A record of content as its owner has it; `labels` are those that garbage collection reads.

    `gone`: the namespace doesn't see the blob any more.
    """

    sequence: int
    namespace: str
    digest: DigestText
    size_bytes: int = 0
    labels: dict[str, str] = {}
    gone: bool = False


class GcContentPage(Reply):
    """One page; `next` is the `after` of the next page; `more`: there is one now."""

    records: list[GcContent]
    next: int
    more: bool = False


class GcContentSweep(Request):
    """``distribution.gc.sweep``: nothing refers to these blobs in this namespace; take them out of it. Result: `GcSwept`.

    With `dry_run`, or where the store isn't trusted, only tell what would go.
    """

    generation: Generation
    instance: str
    namespace: str
    digests: Annotated[list[DigestText], Field(min_length=1, max_length=2000)]
    dry_run: bool = False


class GcIngest(Request):
    """An ingest by its reference."""

    namespace: str
    reference: str


class GcIngestSweep(Request):
    """``distribution.gc.ingests``: abort ingests that nobody holds and nothing was written to for 24 h, but for `keep`.

    Also removes bytes that no namespace has seen since an earlier collection and nobody has used, as a crash leaves them.
    Result: `GcSwept`, whose names are ``<namespace> <reference>``; an ingest of no namespace, and a blob that none sees, stand
    there without one: `` <reference>``, `` <digest>``.
    """

    generation: Generation
    instance: str
    keep: Annotated[list[GcIngest], Field(max_length=4096)] = []
    dry_run: bool = False


class GcSnapshotMark(Request):
    """``bundle.gc.mark``: snapshots that are referred to, with those that lie below them. Result: `GcMarked`.

    Roots add up over the requests of one generation. The owner adds its own: snapshots with ``containerd.io/gc.root``, those of
    its bundles, mounted ones, and whatever was used since ``gc.begin``.
    """

    generation: Generation
    instance: str
    roots: Annotated[list[str], Field(max_length=4096)] = []


class GcSnapshotReference(Reply):
    """What the labels of a snapshot refer to. `kind` and `name` as `LeaseResource`; `back`: it is a back reference."""

    snapshot: str
    kind: str
    name: str
    via: str
    back: bool = False


class GcMarked(Reply):
    """What the snapshots kept so far refer to elsewhere, and how many snapshots would go.

    `references` also has the back references of snapshots that are not kept (yet): if what they name is kept, they are.
    """

    references: list[GcSnapshotReference] = []
    unmarked: int = 0


class GcSnapshotSweep(Request):
    """``bundle.gc.sweep``: remove what is not marked, children first; at most `limit` of them. Result: `GcSwept`."""

    generation: Generation
    instance: str
    limit: Annotated[int, Field(gt=0, le=2000)] = 200
    after: str = ""
    dry_run: bool = False


class GcSwept(Reply):
    """What a sweep did, or would do.

    Attributes:
        removed: names of what is gone, or would go.
        kept: why something named was kept: ``in use``, ``used since``, ``held``, ``referred to here``, ``not here``.
        freed_bytes: bytes given back on disk; those of blobs that another namespace sees don't count.
        carried_out: whether something was really removed: the store is trusted, and it was no dry run.
        next: where to go on, empty when all was looked at.
    """

    removed: list[str] = []
    kept: dict[str, str] = {}
    freed_bytes: int = 0
    carried_out: bool = False
    next: str = ""


class GcExplain(Request):
    """``bundle.gc.explain``: what lies above a snapshot, why it is kept here, and what labels of all snapshots refer to.

    With `name` empty only the last. It belongs to no collection and changes nothing. Result: `GcExplained`.
    """

    name: Annotated[str, Field(max_length=1024)] = ""


class GcExplainedSnapshot(Reply):
    """A snapshot, the one that it lies on (empty for none), and why its owner keeps it by itself.

    `held` is empty, or ``label containerd.io/gc.root``, ``mounted``, ``bundle <id>``, ``in use`` or something of that kind.
    """

    name: str
    parent: str = ""
    held: str = ""


class GcExplained(Reply):
    """What is known here. `snapshots`: the one that was named and all that lie above it, at most 1000; none if it isn't there."""

    snapshotter: str
    size_bytes: int = 0
    snapshots: list[GcExplainedSnapshot] = []
    references: list[GcSnapshotReference] = []


class GcUsageGet(Request):
    """``bundle.gc.usage``: how much disk snapshots and volumes take on this host. It belongs to no collection.

    `roots` are the snapshots that metadata refers to: with the owner's own roots and all that lie below these they count as
    active, the rest as reclaimable. None where there are too many to say: then all snapshots count as active. Result: `GcUsage`.
    """

    roots: Annotated[list[str], Field(max_length=40_000)] | None = None


class GcUsageRow(Reply):
    """One kind of thing; sizes in bytes. `kind`: ``snapshots`` (committed), ``containers`` (writable), ``volumes``.

    A volume is active while a container uses it; one that nobody uses counts as reclaimable only if it is anonymous.
    """

    kind: Literal["snapshots", "containers", "volumes"]
    total: int
    active: int = 0
    size_bytes: int = 0
    reclaimable_bytes: int = 0


class GcUsage(Reply):
    """Usage of one host. `unmeasured` things count with 0 bytes: measuring them would have taken too long; ask again."""

    rows: list[GcUsageRow]
    unmeasured: int = 0
