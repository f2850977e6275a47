"""Blobs of one namespace: requests to the distribution service of a host under the nouns ``content`` and ``ingest``.

Bytes never travel on the bus: they go over HTTP to and from the address that an answer names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request

CheckState = Literal["whole", "corrupt", "missing", "repaired", "lost"]


class ContentInfoGet(Request):
    """``content.info``: what is known about a blob. Result: `ContentInfo`."""

    digest: DigestText


class ContentInfo(Reply):
    """A blob as the namespace knows it. Times are RFC 3339 UTC."""

    digest: DigestText
    size_bytes: int
    created_at: str
    updated_at: str
    labels: dict[str, str] = {}


class ContentList(Request):
    """``content.list``: blobs that match one of `filters` (containerd's language), by digest, pages of `limit`."""

    filters: list[str] = []
    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class ContentPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    blobs: list[ContentInfo]
    next: str = ""


class ContentOpen(Request):
    """``content.open``: where a blob can be read. Result: `ContentAddress`.

    With `in_flight` a blob that is still on its way counts: reading it begins at once and follows the download, and what is
    read is verified only when the end comes; a connection that breaks before means that it never came.
    """

    digest: DigestText
    in_flight: bool = False


class ContentAddress(Reply):
    """A URL for one GET, with Range, that begins within `lifetime_s`."""

    url: str
    size_bytes: int
    lifetime_s: float


class ContentLabel(Request):
    """``content.label``: set labels; an empty value takes one away. Result: `ContentInfo`."""

    digest: DigestText
    labels: dict[str, str]


class ContentRemove(Request):
    """``content.remove``: take a blob out of the namespace; its bytes go when no namespace sees it. Result: `Empty`."""

    digest: DigestText


class ContentCheck(Request):
    """``content.check`` (operation): read and hash every blob of the store, or those named.

    With `repair` a corrupt blob, or one that an image needs and that is missing, is fetched again from where it came from;
    a corrupt one that nobody has is removed. Progress: `ContentCheckProgress`. Result: `ContentChecked`.
    """

    digests: list[DigestText] = []
    repair: bool = False


class ContentCheckProgress(Reply):
    """How far a check is."""

    done_blobs: int
    total_blobs: int
    done_bytes: int
    total_bytes: int


class ContentFinding(Reply):
    """One blob that is not whole, or was not."""

    digest: DigestText
    state: CheckState
    cause: str = ""
    source: str = ""


class ContentChecked(Reply):
    """Result of a check."""

    blobs: int
    size_bytes: int
    findings: list[ContentFinding]


class IngestOpen(Request):
    """``ingest.open``: begin an ingest, or with `resume` take up what was left. Result: `IngestOpened`.

    It is held for the caller until it is committed, aborted or released, or 10 s pass without a write;
    then its bytes are kept, and opening it again with `resume` goes on.
    """

    reference: str
    total_bytes: Annotated[int, Field(ge=0)] | None = None
    expected: DigestText | None = None
    resume: bool = False


class IngestOpened(Reply):
    """An open ingest: bytes from `offset` on go as the body of PATCH requests to `url`, ``Content-Range`` naming the place."""

    session: str
    url: str
    offset: int


class IngestCommit(Request):
    """``ingest.commit``: make an open ingest a blob of the namespace. Result: `ContentInfo`."""

    session: str
    expected: DigestText | None = None
    size_bytes: Annotated[int, Field(ge=0)] | None = None
    labels: dict[str, str] = {}


class IngestClose(Request):
    """``ingest.close``: let go of an open ingest; with `abort` remove it, else keep its bytes. Result: `Empty`."""

    session: str
    abort: bool = False


class IngestGet(Request):
    """``ingest.get``: how far an ingest is. Result: `IngestState`."""

    reference: str


class IngestState(Reply):
    """An ingest in progress or left. Times are RFC 3339 UTC."""

    reference: str
    offset: int
    total_bytes: int | None = None
    started_at: str
    updated_at: str


class IngestList(Request):
    """``ingest.list``: all ingests of the namespace, by reference, pages of `limit`. Result: `IngestPage`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class IngestPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    ingests: list[IngestState]
    next: str = ""


class IngestAbort(Request):
    """``ingest.abort``: remove an ingest that nobody holds. Result: `Empty`."""

    reference: str
