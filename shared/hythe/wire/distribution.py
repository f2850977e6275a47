"""Getting images and blobs: ``image.pull`` (operation), on a host ``content.ensure`` (operation); progress of transfers.

The service's other requests: `hythe.wire.images` (names and what they point to), `hythe.wire.content` (blobs).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import DigestText, Reply, Request

UNKNOWN_SIZE = 0
"""Size of a manifest or index in `ContentEnsure` that is known by its digest alone."""

LayerState = Literal["waiting", "fetching", "verifying", "fetched", "unpacking", "unpacked", "exists"]
PushState = Literal["waiting", "checking", "pushing", "pushed", "mounted", "exists"]
ForeignLayers = Literal["refuse", "fetch"]


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

    `platform` is this host's by default; `all_platforms` brings every manifest of an index. `foreign_layers` says whether
    layers are fetched from the URLs that a manifest names, without credentials. `referrers` brings what the registry says
    is about the image (signatures, SBOMs) along.
    """

    reference: str
    platform: str = ""
    all_platforms: bool = False
    plain_http: bool = False
    foreign_layers: ForeignLayers = "refuse"
    referrers: bool = False


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
    """Result of a pull; `fetched_bytes` came over the network now, the rest was here.

    `image` is the one for the platform that was asked for, of several the one that runs here or the first; `platforms` are
    all that were brought. `referrers` are the digests of what came along.
    """

    image: ImageResolved
    fetched_bytes: int = 0
    platforms: list[str] = []
    referrers: list[DigestText] = []


class BlobPush(Reply):
    """Where one blob of a push or copy stands."""

    digest: DigestText
    state: PushState
    done_bytes: int = 0
    total_bytes: int = 0


class PushProgress(Reply):
    """One progress message of a push or copy."""

    blob: BlobPush


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
    """Where a whole, verified blob is: a path on this host, or where content is no files here, a URL to GET it from."""

    path: str
    size_bytes: int
    url: str = ""
