"""Garbage, as commands ask metadata about it: ``gc.run|why|usage|graph``. What metadata asks owners is in `hythe.wire.gc`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import Reply, Request


class GcRun(Request):
    """``metadata.gc.run``: collect now. Result: `GcReport`.

    `dry_run` only tells what would go. `confirm` lets owners that don't trust this store trust it from now on.
    """

    dry_run: bool = False
    confirm: bool = False


class GcItem(Reply):
    """Something that went, or would go. `kind` is ``content``, ``snapshot``, ``ingest`` or ``lease``."""

    kind: str
    namespace: str = ""
    name: str
    size_bytes: int = 0


class GcHostReport(Reply):
    """One owner of one host. `removed` of it went, or would go unless `state` is ``swept``; `kept` was named to it and stays.

    `state`: ``swept``, ``dry run``, ``untrusted`` (it only told what would go), ``unreachable``, ``refused``, ``suspended``,
    ``kept`` (nothing was asked of it, for another owner is missing); `reason` says why.
    """

    host: str
    owner: Literal["distribution", "bundle"]
    state: str
    reason: str = ""
    removed: int = 0
    kept: int = 0
    freed_bytes: int = 0


class GcReport(Reply):
    """What a collection did. `items` are at most 10 000; `removed` counts all. Durations in milliseconds."""

    generation: int
    dry_run: bool
    suspended: str = ""
    nodes: int = 0
    mark_ms: float = 0.0
    total_ms: float = 0.0
    removed: int = 0
    freed_bytes: int = 0
    items: list[GcItem] = []
    hosts: list[GcHostReport] = []


class GcWhy(Request):
    """``metadata.gc.why``: what keeps a blob, by digest or its unique prefix, or a snapshot by key. Result: `GcAnswer`.

    With `kind` empty a digest is a blob, and what is none is a snapshot.
    """

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    kind: Literal["", "content", "snapshot"] = ""


class GcStep(Reply):
    """A step of a path: a node and the label or field by which the one before it refers to it; of the first why it is a root."""

    kind: str
    namespace: str = ""
    name: str
    via: str = ""


class GcAnswer(Reply):
    """What was found.

    Attributes:
        paths: from a root to it, shortest first, one for each root that reaches it, at most 100.
        goes: when nothing keeps it, or leases alone do, when it goes, in words: ``with the next collection, within 10 min``.
        silent: hosts whose bundle didn't answer: what keeps it there is missing.
    """

    kind: str
    name: str
    exists: bool = True
    hosts: list[str] = []
    size_bytes: int = 0
    paths: list[list[GcStep]] = []
    goes: str = ""
    silent: list[str] = []


class GraphGet(Request):
    """``metadata.gc.graph``: what refers to what in a namespace; with `name` only what can be reached from or leads to it.

    Result: `GraphPage`, pages by `after`.
    """

    name: str = ""
    after: str = ""
    limit: Annotated[int, Field(gt=0, le=2000)] = 1000


class GraphNode(Reply):
    """A node. `root`: why it is one, empty if it isn't; `present`: it exists, as far as metadata can tell."""

    id: str
    kind: str
    namespace: str = ""
    name: str
    root: str = ""
    present: bool = True


class GraphEdge(Reply):
    """An edge between nodes by their `id`, and the label or field that it comes from."""

    source: str
    target: str
    via: str


class GraphPage(Reply):
    """One page of nodes with the edges that go out from them; `next` is empty at the end."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]
    next: str = ""


class UsageGet(Request):
    """``metadata.gc.usage``: how much is stored where and how much of it a collection would free. Result: `Usage`.

    With `images` also what each image takes.
    """

    images: bool = False


class UsageRow(Reply):
    """One kind of thing on one host; sizes in bytes. `kind`: ``images`` (content), ``containers``, ``snapshots``, ``volumes``.

    Of images, `total` counts the names whose content is there, `active` those that a container is made of.
    """

    host: str
    kind: str
    total: int
    active: int = 0
    size_bytes: int = 0
    reclaimable_bytes: int = 0


class UsageImage(Reply):
    """What the blobs of an image take, on any host; `unique_bytes` is what no other image refers to."""

    namespace: str
    reference: str
    digest: str
    size_bytes: int = 0
    unique_bytes: int = 0
    containers: int = 0


class Usage(Reply):
    """All hosts that answered; the others are named in `silent`. `images` are at most 5000, largest first.

    `unmeasured`: so many snapshots and volumes count with 0 bytes, for measuring them would have taken too long.
    """

    rows: list[UsageRow]
    images: list[UsageImage] = []
    unmeasured: int = 0
    silent: list[str] = []
