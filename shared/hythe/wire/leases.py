"""Leases at the metadata service. Subjects: ``lease.create|get|list|add|drop|renew|label|remove``, ``content.refer``.

A lease keeps what it names from being collected. Its life is a duration that starts anew with each renewal and each restart
of metadata, or it ends at a wall-clock time by the label ``containerd.io/gc.expire``, or it has no end.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request

LeaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}$")]
Duration = Annotated[float, Field(gt=0, le=31 * 86400)]


class LeaseResource(Request):
    """Something that a lease keeps.

    `kind`: ``content`` (digest), ``ingest`` (reference), ``image`` (reference), ``snapshot/<snapshotter>`` (key).
    """

    kind: Annotated[str, Field(pattern=r"^(content|ingest|image|snapshot/[a-z0-9-]{1,64})$")]
    name: Annotated[str, Field(min_length=1, max_length=1024)]


class LeaseCreate(Request):
    """``lease.create``: make a lease, once per request id. With `duration_s` unset it ends by its label or never.

    Without `id` it gets a random one. AlreadyExists if there is one of that id that another request made.
    """

    id: LeaseId | Literal[""] = ""
    labels: dict[str, str] = {}
    duration_s: Duration | None = None
    resources: Annotated[list[LeaseResource], Field(max_length=4096)] = []


class LeaseRecord(Reply):
    """A lease. Times are RFC 3339 UTC. `expired`: it keeps nothing any more and goes with the next collection.

    `left_s`: seconds that are left to it, None where it doesn't end.
    """

    namespace: str
    id: str
    labels: dict[str, str] = {}
    duration_s: float | None = None
    resources: list[LeaseResource] = []
    revision: int
    created_at: str
    updated_at: str
    left_s: float | None = None
    expired: bool = False


class LeaseGet(Request):
    """``lease.get``: by id. Result: `LeaseRecord`."""

    id: LeaseId


class LeaseList(Request):
    """``lease.list``: leases that match one of `filters` (containerd's language), by id, pages of `limit`.

    Empty namespace token lists all namespaces.
    """

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class LeasePage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    leases: list[LeaseRecord]
    next: str = ""


class LeaseAdd(Request):
    """``lease.add``: let a lease keep more. Repeating it changes nothing. Result: `LeaseRecord`.

    NotFound if it is gone, or has expired.
    """

    id: LeaseId
    resources: Annotated[list[LeaseResource], Field(min_length=1, max_length=4096)]


class LeaseDrop(Request):
    """``lease.drop``: let a lease keep these no longer. Repeating it changes nothing. Result: `LeaseRecord`."""

    id: LeaseId
    resources: Annotated[list[LeaseResource], Field(min_length=1, max_length=4096)]


class LeaseRenew(Request):
    """``lease.renew``: its duration starts anew. NotFound if it is gone, or has expired. Result: `Empty`."""

    id: LeaseId


class LeaseLabel(Request):
    """``lease.label``: set labels; an empty value takes one away. Result: `LeaseRecord`."""

    id: LeaseId
    labels: dict[str, str]


class LeaseRemove(Request):
    """``lease.remove``: end a lease; nothing happens if it is gone. With `sync` what it kept is collected before the answer.

    Result: `Empty`.
    """

    id: LeaseId
    sync: bool = False


class ContentReference(Request):
    """A blob that is about to be brought, and what it refers to: the ``containerd.io/gc.*`` labels that it will have."""

    digest: DigestText
    labels: dict[str, str] = {}


class ContentRefer(Request):
    """``content.refer``: reference before presence, in one transaction.

    The lease `lease` is made if there is none (with `duration_s`), else its duration starts anew; it keeps `content`, and so
    whatever their labels refer to. Only when this is answered may the caller ask whether one of them exists. Result:
    `StoreMark`. Repeating it changes nothing.
    """

    lease: LeaseId
    duration_s: Duration = 60.0
    content: Annotated[list[ContentReference], Field(max_length=4096)] = []
