"""What file systems change of each other, and images made of that.

To the bundle service of a host ``snapshot.changes``, ``snapshot.diff``, ``image.commit``; to runtime ``container.changes``,
``container.commit``. All are operations.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request
from hythe.wire.distribution import Descriptor

LayerCompression = Literal["gzip", "zstd", "none"]
SourceDateEpoch = Annotated[int, Field(ge=0, le=253402300799)]
"""Seconds since 1970, up to the year 9999: files' later times become this one, and so do times of an image."""


class SnapshotChanges(Request):
    """``snapshot.changes``: what a snapshot changes of its parent, or of the snapshot `other`.

    Progress: `ChangePage`. Result: `ChangesTold`.
    """

    key: str
    other: str = ""


class ContainerChanges(Request):
    """``container.changes``: what a container, by id, name or prefix, has changed of its image.

    Progress: `ChangePage`. Result: `ChangesTold`.
    """

    key: str


class FileChange(Reply):
    """One change: (A)dded, (C)hanged or (D)eleted. Bytes of a path that are no UTF-8 are written as ``\\xNN``."""

    kind: Literal["A", "C", "D"]
    path: str


class ChangePage(Reply):
    """Some changes; `first` counts those told before, so that a page that was lost is noticed."""

    first: int
    changes: list[FileChange]


class ChangesTold(Reply):
    """How many changes there were in all."""

    count: int


class LayerProgress(Reply):
    """Bytes of a layer's archive written so far."""

    done_bytes: int


class SnapshotDiff(Request):
    """``snapshot.diff``: put what a snapshot changes of its parent, or of `other`, into content as a layer.

    Progress: `LayerProgress`. Result: `LayerStored`.
    """

    key: str
    other: str = ""
    compression: LayerCompression = "gzip"
    source_date_epoch: SourceDateEpoch | None = None


class LayerStored(Reply):
    """A layer in content; `diff_id` is the digest of its uncompressed archive, `new`: the namespace did not have it before."""

    blob: Descriptor
    diff_id: DigestText
    archive_bytes: int
    entries: int
    new: bool


class ImageWishes(Request):
    """What is said of a new image; `changes` are instructions as in a Dockerfile, e.g. ``CMD ["sh"]``."""

    reference: str
    author: str = ""
    message: str = ""
    changes: list[str] = []
    compression: LayerCompression = "gzip"
    source_date_epoch: SourceDateEpoch | None = None


class ImageCommit(Request):
    """``image.commit``: make an image of a container (its id) or snapshot (its name) and the image below it.

    Progress: `LayerProgress`. Result: `ImageCommitted`.
    """

    key: str
    image: ImageWishes


class ContainerCommit(Request):
    """``container.commit``: make an image of a container, by id, name or prefix, on its host.

    Progress: `LayerProgress`. Result: `ImageCommitted`.
    """

    key: str
    image: ImageWishes


class ImageCommitted(Reply):
    """A new image; `id` is its config's digest, `size_bytes` counts config and all layers, `layer` is the new one."""

    reference: str
    digest: DigestText
    id: DigestText
    size_bytes: int
    layer: LayerStored
    host: str = ""
