"""Image names and what they point to: requests to the distribution service under the noun ``image``.

Wherever a request has `image`, it is a reference, or an image id (digest of a config or root, also a unique prefix of
at least four hex digits).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request
from hythe.wire.distribution import Descriptor

ImportFormat = Literal["oci", "docker", "directory", "aci"]
ExportFormat = Literal["oci", "docker"]


class ImageList(Request):
    """``image.list``: images of the namespace by reference, with what content knows of them; pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class ImageSummary(Reply):
    """One image name. Times are RFC 3339 UTC.

    `size_bytes` is the compressed size of config and layers for `platform`; both are unknown (None, empty) when no
    manifest of the image is in the content store. `complete` tells whether every blob for `platform` is there.
    `image_created_at` is what the image says of itself, `created_at` is when the name was registered. `id` is the config's
    digest, empty when unknown. `platforms` are all whose manifest is here. `dangling`: no name points to it any more.
    `labels` are those of the image config.
    """

    reference: str
    digest: DigestText
    id: str = ""
    platform: str = ""
    platforms: list[str] = []
    size_bytes: int | None = None
    complete: bool = False
    dangling: bool = False
    labels: dict[str, str] = {}
    image_created_at: str = ""
    created_at: str
    updated_at: str


class ImageSummaryPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    images: list[ImageSummary]
    next: str = ""


class ImagePush(Request):
    """``image.push`` (operation): send an image to the registry of `target`, children before parents.

    `image` is what is sent, `target` where to; empty for the image's own reference. `platform` sends that manifest alone,
    else the root with all of it that is here, which for an index must be everything unless `all_platforms` is false, when
    only this host's platform is required. `referrers` sends what is known to be about it along. Progress: `PushProgress`.
    Result: `ImagePushed`.
    """

    image: str
    target: str = ""
    platform: str = ""
    all_platforms: bool = False
    plain_http: bool = False
    referrers: bool = False


class ImagePushed(Reply):
    """Result of a push or copy: what the tag points to now, and how many bytes were sent."""

    reference: str
    digest: DigestText
    sent_bytes: int = 0
    mounted: int = 0
    existing: int = 0
    referrers: list[DigestText] = []


class ImageCopy(Request):
    """``image.copy`` (operation): from registry to registry by way of this host's content, never unpacked, no name here.

    Progress: `PushProgress`. Result: `ImagePushed`.
    """

    source: str
    target: str
    platform: str = ""
    all_platforms: bool = False
    source_plain_http: bool = False
    target_plain_http: bool = False
    referrers: bool = False


class ImageTag(Request):
    """``image.tag``: point the name `target` at what `image` is. Result: `ImageSummary`."""

    image: str
    target: str


class ImageRemove(Request):
    """``image.remove``: forget a name, or with an id all names of that image; its content stays until it is collected.

    An id with several names is refused unless `force`; so is an image that a container uses.
    """

    image: str
    force: bool = False


class ImageRemoved(Reply):
    """Names that were forgotten, and the roots that no name of the namespace points to any more."""

    untagged: list[str]
    deleted: list[DigestText]


class ImageInspect(Request):
    """``image.inspect``: everything known about one image. Result: `ImageDetails`."""

    image: str
    platform: str = ""


class ManifestDetails(Reply):
    """One manifest of an image. `size_bytes` counts config and layers; `present_bytes` those of them that are here.

    Of a manifest that isn't here, `config` is None, `layers` is empty, and its own digest is what is `missing`.
    """

    platform: str
    manifest: Descriptor
    config: Descriptor | None = None
    layers: list[Descriptor]
    diff_ids: list[DigestText] = []
    size_bytes: int
    present_bytes: int
    missing: list[DigestText] = []


class ImageDetails(Reply):
    """Everything known about one image. `config` is the image config as JSON text, empty when it isn't here."""

    summary: ImageSummary
    target: Descriptor
    names: list[str]
    manifest: ManifestDetails | None = None
    config: str = ""
    manifests: list[ManifestDetails] = []


class ImageHistory(Request):
    """``image.history``: how an image was made, the newest step first. Result: `ImageSteps`."""

    image: str
    platform: str = ""


class ImageStep(Reply):
    """One step. `size_bytes` is the compressed size of its layer, 0 for a step without one. `layer` is empty for those."""

    created_at: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    size_bytes: int = 0
    layer: str = ""


class ImageSteps(Reply):
    """The steps of one image."""

    id: str
    steps: list[ImageStep]


class ImageCheck(Request):
    """``image.check`` (operation): whether all content of the images is here; all of the namespace, or those named.

    With `verify` each blob's bytes are read and hashed as well. Result: `ImageChecks`.
    """

    images: list[str] = []
    verify: bool = False


class ImageCheckResult(Reply):
    """One image; `complete` counts its platform for this host. Corrupt blobs are found with `verify` only."""

    reference: str
    digest: DigestText
    platform: str = ""
    complete: bool
    blobs: int
    present_blobs: int
    size_bytes: int
    present_bytes: int
    missing: list[DigestText] = []
    corrupt: list[DigestText] = []


class ImageChecks(Reply):
    """Answer to ``image.check``."""

    images: list[ImageCheckResult]


class ImageUsage(Request):
    """``image.usage``: how many bytes of content each image takes. Result: `ImageUsages`."""


class ImageUsageRow(Reply):
    """One root. `unique_bytes` are of blobs that no other image of the namespace has, `shared_bytes` the rest."""

    references: list[str]
    digest: DigestText
    id: str = ""
    size_bytes: int
    shared_bytes: int
    unique_bytes: int
    blobs: int
    containers: int = 0


class ImageUsages(Reply):
    """Answer to ``image.usage``; the totals count each blob once. `unreferenced_bytes` belong to no image of any namespace."""

    images: list[ImageUsageRow]
    total_bytes: int
    reclaimable_bytes: int
    unreferenced_bytes: int


class ImagePrune(Request):
    """``image.prune``: forget dangling images, with `all` every image that no container uses.

    `before` (RFC 3339) keeps younger ones; `labels` (``key`` or ``key=value``) must all match. Result: `ImagePruned`.
    """

    all: bool = False
    before: str = ""
    labels: list[str] = []
    dry_run: bool = False


class ImagePruned(Reply):
    """What was forgotten; `reclaimable_bytes` of content have no image any more and go when they are collected."""

    untagged: list[str]
    deleted: list[DigestText]
    reclaimable_bytes: int


class ImageReferrers(Request):
    """``image.referrers`` (operation): what a registry says is about an image. Result: `ImageReferrerList`."""

    reference: str
    artifact_type: str = ""
    platform: str = ""
    plain_http: bool = False


class Referrer(Reply):
    """A manifest about another one: a signature, an SBOM, an attestation."""

    digest: DigestText
    media_type: str
    artifact_type: str = ""
    size_bytes: int
    annotations: dict[str, str] = {}


class ImageReferrerList(Reply):
    """Answer to ``image.referrers``; `subject` is the digest that was asked about."""

    subject: DigestText
    referrers: list[Referrer]


class ImageImport(Request):
    """``image.import``: where to send an archive. Result: `TransferAddress`; the archive is POSTed there.

    The format is recognised. `reference` names an image whose archive does not (ACI, an OCI layout without a name);
    `platform` takes that one alone. The answer to the POST is `ImageImported` or a problem, as JSON.
    """

    reference: str = ""
    platform: str = ""
    all_platforms: bool = True


class ImageImported(Reply):
    """What an archive held; `images` are the names that were registered."""

    format: ImportFormat
    images: list[ImageSummary]
    blobs: int
    size_bytes: int


class ImageExport(Request):
    """``image.export``: where to GET an archive of images. Result: `TransferAddress`.

    The default form is an OCI layout that also has Docker's ``manifest.json``; ``docker`` is docker-archive alone.
    Everything is checked to be here before the address is given.
    """

    images: Annotated[list[str], Field(min_length=1, max_length=100)]
    format: ExportFormat = "oci"
    platform: str = ""
    all_platforms: bool = False


class TransferAddress(Reply):
    """A URL of the distribution process with a ticket in it: good for one request that begins within `lifetime_s`."""

    url: str
    lifetime_s: float


class RegistryLogin(Request):
    """``registry.login`` (operation): keep credentials for a registry if it takes them. Result: `RegistryLoggedIn`.

    `password` is never logged, traced or answered.
    """

    host: str
    username: str
    password: Annotated[str, Field(repr=False)]
    plain_http: bool = False


class RegistryLoggedIn(Reply):
    """Where the credentials are kept: a file, or a credential helper."""

    host: str
    kept_in: str


class RegistryLogout(Request):
    """``registry.logout``: forget the credentials for a registry. Result: `RegistryLoggedOut`."""

    host: str


class RegistryLoggedOut(Reply):
    """Whether there was something to forget."""

    host: str
    removed: bool


class ImageRegister(Request):
    """``image.register`` (on a host): point `reference` at a root manifest or index, all of which is in the namespace's content.

    A platform of an index of which nothing is here counts as left out. Result: `ImageSummary`.

    FailedPrecondition when a blob is missing; its digest is told.
    """

    reference: str
    target: Descriptor
