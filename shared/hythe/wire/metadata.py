"""Requests to the metadata service. Subjects: ``container.begin|finish|get|list``, ``image.put|get|list|remove``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, DigestText, Reply, Request
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef


class ContainerBegin(Request):
    """``container.begin``: in one transaction reserve the name, record spec and placement, take a lease.

    The request id is `id`. The same `id` with the same body answers the present record; another body is Conflict.
    With ``image.digest`` unset the digest is looked up by reference (NotFound with details ``kind=image`` if unknown), but
    for the reference of a bundle directory, which has none.
    """

    id: ContainerId
    name: str
    image: ImageRef
    host: str
    spec: ContainerSpec
    lease_s: Annotated[float, Field(gt=0, le=86400)] = 60.0


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


class ContainerGet(Request):
    """``container.get``: by full id, by name, or by unique prefix of the id (ambiguous: InvalidArgument, candidates named)."""

    key: str


class ContainerList(Request):
    """``container.list``: records of the namespace, by id, pages of `limit`. Empty namespace token lists all namespaces."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


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


class ImagePut(Request):
    """``image.put``: point a name at a root manifest or index.

    With `if_revision` set, only if the record still has that revision (0: does not exist), else Conflict: so an older
    resolve never overwrites a newer one. The lease `lease` ends in the same transaction: the name keeps what it kept.
    """

    reference: str
    digest: DigestText
    media_type: str
    size_bytes: Annotated[int, Field(ge=0)]
    if_revision: Annotated[int, Field(ge=0)] | None = None
    lease: str = ""


class ImageGet(Request):
    """``image.get``: by normalised reference."""

    reference: str


class ImageList(Request):
    """``image.list``: images of the namespace by reference, pages of `limit`. Empty namespace token lists all namespaces."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


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
