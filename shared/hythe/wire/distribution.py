"""Requests to the distribution service.

Subjects: ``image.pull`` (operation), ``image.list``, ``image.remove``; on a host ``content.ensure`` (operation).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request

UNKNOWN_SIZE = 0
"""Size of a manifest or index in `ContentEnsure` that is known by its digest alone."""

LayerState = Literal["waiting", "fetching", "verifying", "fetched", "unpacking", "unpacked", "exists"]


class Descriptor(Reply):
    """An OCI content descriptor.

    Spec: OCI image-spec, "Content Descriptors".
    """

    media_type: str
    digest: DigestText
    size_bytes: Annotated[int, Field(ge=0)]


class ImagePull(Request):
    """``image.pull`` (operation): resolve `reference`, bring all its content to this host, register the name.

    Progress: first `ImageResolved`, then `LayerProgress` at changes. Result: `ImagePulled`. Nothing is registered
    unless every blob arrived and was verified.
    """

    reference: str
    platform: str = ""
    plain_http: bool = False


class LayerProgress(Reply):
    """Where one blob stands. `done_bytes` of `total_bytes` counts the work of `state`, not of all states."""

    digest: DigestText
    state: LayerState
    done_bytes: int = 0
    total_bytes: int = 0


class ImageResolved(Reply):
    """What a reference points to, and the manifest for the platform. Manifest and config are in the content store."""

    reference: str
    target: Descriptor
    manifest: Descriptor
    config: Descriptor
    layers: list[Descriptor]
    platform: str


class PullProgress(Reply):
    """One progress message of a pull: exactly one of the fields is set."""

    resolved: ImageResolved | None = None
    layer: LayerProgress | None = None


class ImagePulled(Reply):
    """Result of a pull; `fetched_bytes` came over the network now, the rest was here."""

    image: ImageResolved
    fetched_bytes: int = 0


class ContentEnsure(Request):
    """``content.ensure`` (operation, on a host): make sure that this host's content store has a blob.

    Single-flight per digest on the host: all who wait share one download. `reference` names the repository that the
    blob can be fetched from. A manifest or index that is known by its digest alone is asked for with an empty media
    type and `UNKNOWN_SIZE`. Progress: `LayerProgress`. Result: `ContentLocation`. Its path stays valid until the blob is
    deleted: open it at once, and ask again on ENOENT.
    """

    descriptor: Descriptor
    reference: str
    plain_http: bool = False


class ContentLocation(Reply):
    """Where a whole, verified blob lies on this host."""

    path: str
    size_bytes: int


class ImageList(Request):
    """``image.list``: images of the namespace by reference, with what content knows of them; pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class ImageSummary(Reply):
    """One image name. Times are RFC 3339 UTC.

    `size_bytes` is the compressed size of config and layers for `platform`; both are unknown (None, empty) when no
    manifest of the image is in the content store. `complete` tells whether every blob for `platform` is there.
    `image_created_at` is what the image says of itself, `created_at` is when the name was registered.
    """

    reference: str
    digest: DigestText
    platform: str = ""
    size_bytes: int | None = None
    complete: bool = False
    image_created_at: str = ""
    created_at: str
    updated_at: str


class ImageSummaryPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    images: list[ImageSummary]
    next: str = ""


class ImageRemove(Request):
    """``image.remove``: forget the name; what it pointed to stays until it is collected. Result: `Empty`."""

    reference: str
