"""Bundles as directories that can be carried elsewhere: requests to the bundle service of one host, noun ``bundle``.

Operations: ``bundle.create|pack|store|unpack|fetch|remove``. Plain: ``bundle.list|inspect``. To distribution, operation:
``image.fetch``. A `directory` or `file` is an absolute path of that host.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import ContainerId, DigestText, Reply, Request
from hythe.wire.bundle import Mount
from hythe.wire.container import ContainerSpec, ImageRef
from hythe.wire.distribution import Descriptor, LayerProgress

BundleKind = Literal["container", "created"]
Compression = Literal["none", "gzip", "zstd"]
Step = Literal["copying", "packing", "unpacking"]


class BundleProgress(Reply):
    """One progress message: a layer of an image on its way, or how far `step` is in bytes (`total_bytes` 0: unknown)."""

    layer: LayerProgress | None = None
    step: Step | None = None
    done_bytes: int = 0
    total_bytes: int = 0


class BundleCreate(Request):
    """``bundle.create`` (operation): make the new directory of an image's bundle, with a whole copy of its file system.

    Of `spec` all counts that goes into a config.json. Result: `BundleMade`.
    """

    directory: str
    image: ImageRef
    spec: ContainerSpec
    plain_http: bool = False


class BundleMade(Reply):
    """A bundle directory that is whole and on the disk. `image` is the reference that it comes from, where that is known."""

    directory: str
    image: str = ""
    image_digest: DigestText | None = None
    args: list[str] = []
    size_bytes: int = 0


class BundleList(Request):
    """``bundle.list``: bundles of the namespace on this host, by path, pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class BundleSummary(Reply):
    """One bundle: a container's own, or one that was created. Times are RFC 3339 UTC.

    `containers` are the names of those that run, or ran, from it. `missing`: its directory is gone, or is another one.
    """

    path: str
    kind: BundleKind
    image: str = ""
    image_digest: DigestText | None = None
    created_at: str
    containers: list[str] = []
    missing: bool = False


class BundlePage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    bundles: list[BundleSummary]
    next: str = ""


class BundleInspect(Request):
    """``bundle.inspect``: one bundle, by the id of its container or by its directory. Result: `BundleDetails`."""

    id: ContainerId | None = None
    directory: str = ""


class BundleDetails(Reply):
    """What is known of a bundle: its files ``config.json`` and ``hythe.json`` (empty: it has none), and its mounts.

    `created`: Hythe made the directory, and would remove it. `terminal`: its config.json asks for a terminal.
    """

    path: str
    kind: BundleKind | Literal["foreign"]
    root: str
    config: str
    record: str = ""
    mounts: list[Mount] = []
    terminal: bool = False


class BundleRemove(Request):
    """``bundle.remove`` (operation): remove a directory that was created here. Result: `Empty`.

    FailedPrecondition: Hythe did not make it, a container is made from it, or something is mounted in it.
    """

    directory: str


class BundlePack(Request):
    """``bundle.pack`` (operation): write a bundle, a container's or a directory's, as one archive. Result: `BundlePacked`.

    `epoch_s`: no time in the archive is later than this. `file` appears when it is whole, and replaces what was there.
    """

    id: ContainerId | None = None
    directory: str = ""
    file: str
    compression: Compression = "none"
    epoch_s: Annotated[int, Field(ge=0)] | None = None


class BundlePacked(Reply):
    """An archive on the disk, with the digest of its bytes."""

    file: str
    digest: DigestText
    size_bytes: int
    warnings: list[str] = []


class BundleStore(Request):
    """``bundle.store`` (operation): put a bundle into the content of the namespace as an artifact, under a name.

    Result: `BundleStored`.
    """

    id: ContainerId | None = None
    directory: str = ""
    reference: str
    epoch_s: Annotated[int, Field(ge=0)] | None = None


class BundleStored(Reply):
    """An artifact: its normalised name and what that points to."""

    reference: str
    target: Descriptor
    warnings: list[str] = []


class BundleUnpack(Request):
    """``bundle.unpack`` (operation): make a new directory of an archive that ``bundle.pack`` wrote. Result: `BundleMade`."""

    file: str
    directory: str


class BundleFetch(Request):
    """``bundle.fetch`` (operation): make a new directory of an artifact whose digest is known. Result: `BundleMade`."""

    image: ImageRef
    directory: str
    plain_http: bool = False


class ArtifactFetch(Request):
    """``image.fetch`` (operation, distribution): bring an artifact with all its content to this host, register its name.

    It must be a manifest of `artifact_type`. Progress: `hythe.wire.distribution.PullProgress`. Result: `ArtifactFetched`.
    """

    reference: str
    artifact_type: str
    plain_http: bool = False


class ArtifactFetched(Reply):
    """What the name points to now; `fetched_bytes` came over the network, the rest was here."""

    reference: str
    target: Descriptor
    fetched_bytes: int = 0
