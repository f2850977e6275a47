"""Requests to the metadata service about containers and images.

Subjects: ``container.begin|finish|desire|update|get|list``, ``image.put|update|get|list|remove``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, DigestText, Reply, Request
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef


class ContainerBegin(Request):
    """``container.begin``: in one transaction reserve the name, record spec and placement, take a lease.

    The request id is `id`. The same `id` with the same body answers the present record; another body is Conflict.
    With ``image.digest`` unset the digest is looked up by reference (NotFound with details ``kind=image`` if unknown), but
    for the reference of a bundle directory, which has none. Empty `runtime` and `snapshotter` are the host's.
    """

    id: ContainerId
    name: str
    image: ImageRef
    host: str
    spec: ContainerSpec
    lease_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    runtime: str = ""
    snapshotter: str = ""


class ContainerFinish(Request):
    """``container.finish``: settle a record. Repeating it changes nothing.

    ``created``: the container exists on its host. ``removing``: it is going; the name is free from now on.
    ``absent``: it never came to be, or is gone; the record is deleted and the name is free.
    """

    id: ContainerId
    outcome: Literal["created", "removing", "absent"]


class ContainerFinished(Reply):
    """Answer to ``container.finish``; `record` is None when there is none (any more)."""

    record: ContainerRecord | None = None


class ContainerDesire(Request):
    """``container.desire``: set the desired state and so raise the epoch; answers the record."""

    id: ContainerId
    desired: Literal["running", "stopped", "removed"]


class ContainerUpdate(Request):
    """``container.update``: change labels by the mask `fields`, containerd's: ``labels`` for all, ``labels.<key>`` for one.

    With `if_revision` only if the record still has that revision, else Conflict. The epoch stays. Answers the record.
    """

    id: ContainerId
    labels: dict[str, str] = {}
    fields: Annotated[list[str], Field(min_length=1, max_length=64)] = ["labels"]
    if_revision: Annotated[int, Field(ge=0)] | None = None


class ContainerGet(Request):
    """``container.get``: by full id, by name, or by unique prefix of the id (ambiguous: InvalidArgument, candidates named)."""

    key: str


class ContainerList(Request):
    """``container.list``: records that match one of `filters` (containerd's language), by id, pages of `limit`.

    Empty namespace token lists all namespaces, by namespace and id; `after` is then both, joined by a space.
    """

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class ContainerPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    records: list[ContainerRecord]
    next: str = ""


class ImageRecord(Reply):
    """An image name and what it points to, owned by metadata. Times are RFC 3339 UTC."""

    namespace: str = ""
    reference: str
    digest: DigestText
    media_type: str
    size_bytes: int
    revision: int
    created_at: str
    updated_at: str
    labels: dict[str, str] = {}


class ImagePut(Request):
    """``image.put``: point a name at a root manifest or index.

    With `if_revision` set, only if the record still has that revision (0: does not exist), else Conflict: so an older
    resolve never overwrites a newer one. The lease of id `lease` ends in the same transaction: what it kept is kept by the
    name from then on. `labels` take the place of those that the name has.
    """

    reference: str
    digest: DigestText
    media_type: str
    size_bytes: Annotated[int, Field(ge=0)]
    if_revision: Annotated[int, Field(ge=0)] | None = None
    lease: str = ""
    labels: dict[str, str] | None = None


class ImageUpdate(Request):
    """``image.update``: change what the mask `fields`, containerd's, names.

    ``labels`` is for all labels, ``labels.<key>`` for one, ``target`` for `digest`, `media_type` and `size_bytes`. With
    `if_revision` only if the record still has that revision, else Conflict. Answers the record.
    """

    reference: str
    labels: dict[str, str] = {}
    fields: Annotated[list[str], Field(min_length=1, max_length=64)] = ["labels"]
    if_revision: Annotated[int, Field(ge=0)] | None = None
    digest: DigestText | None = None
    media_type: str = ""
    size_bytes: Annotated[int, Field(ge=0)] = 0


class ImageGet(Request):
    """``image.get``: by normalised reference."""

    reference: str


class ImageList(Request):
    """``image.list``: images that match one of `filters` (containerd's language), by reference, pages of `limit`.

    Empty namespace token lists all namespaces, by namespace and reference; `after` is then both, joined by a space.
    """

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class ImagePage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    images: list[ImageRecord]
    next: str = ""


class ImageRemove(Request):
    """``image.remove``: forget the name; what it pointed to stays until it is collected.

    With `if_revision` set, only if the record still has that revision, else Conflict: so a decision about what a name
    pointed to never hits what it points to by now.
    """

    reference: str
    if_revision: Annotated[int, Field(ge=0)] | None = None
