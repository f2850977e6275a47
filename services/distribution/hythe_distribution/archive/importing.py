"""Importing: an archive of any known form becomes blobs in the content store and names to register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, Platform, default_platform
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.archive.aci import aci_roots, is_aci
from hythe_distribution.archive.compression import Codec
from hythe_distribution.archive.directory import directory_roots, is_directory
from hythe_distribution.archive.docker import docker_roots, is_docker_archive
from hythe_distribution.archive.graph import Walk
from hythe_distribution.archive.intake import Holdings, take_in
from hythe_distribution.archive.layout import is_layout, layout_roots
from hythe_distribution.archive.roots import Root, plain, settle_names
from hythe_distribution.archive.source import Source
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.records import Publication

Format = Literal["oci", "docker", "directory", "aci"]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What of an archive is wanted.

    Attributes:
        reference: name of the one image in the archive; where there are several, the repository for those that have only
            a tag.
        platform: takes that one's manifest out of each index.
        all_platforms: keeps indexes whole, be it with platforms that the archive doesn't hold; if False and no platform
            is given, this host's is taken.
        cancellation: the order to stop.
        zstd: how archives compressed by zstd are read; None refuses them.
    """

    reference: Reference | None = None
    platform: Platform | None = None
    all_platforms: bool = True
    cancellation: Cancellation = field(default_factory=Cancellation)
    zstd: Codec | None = None


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image that is whole in the content store; `reference` is None where nothing names it."""

    reference: Reference | None
    target: Descriptor


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an archive.

    Attributes:
        images: one for each name, in the archive's order; to be registered by the caller once `publications` are.
        publications: every blob of the images, what is pointed to before what points to it.
        blobs: how many there are.
        size_bytes: their size together.
    """

    format: Format
    images: tuple[ImportedImage, ...]
    publications: tuple[Publication, ...]
    blobs: int
    size_bytes: int


def import_archive(stream: BinaryIO, content: Content, options: ImportOptions) -> Imported:
    """Store what an archive holds and say what it is, in one pass and without a copy of the archive. Blocks.

    The form is told by the content: OCI layout, docker-archive, skopeo's ``dir:`` or ACI, as tar, plain or compressed with
    gzip, bzip2, xz or zstd; documents may come before or after blobs. Every blob is verified. When this raises, no ingest
    is left; blobs that were whole may be, published nowhere.

    Args:
        stream: read to its end; its own errors pass through.

    Raises:
        InvalidArgument: no known form, hostile or broken, or an image of which no platform is complete.
        DataLoss: the archive ends early or is damaged, or a blob isn't what is promised of it.
        NotFound: nothing in it is for the platform (details ``kind=platform``).
        Unimplemented: an ACI that no OCI image can stand for, or zstd without `options.zstd`.
        Cancelled: `options.cancellation` said so.
        HytheError: see `Content.open_ingest` and `Ingest.write`.
    """
    with tracing.span("import archive") as span:
        holdings = take_in(Source(stream, options.cancellation, options.zstd), content)
        form, roots = _recognise(holdings, content)
        span.set("archive.format", form)
        walk = Walk(content, holdings.sizes())
        platform = options.platform or (None if options.all_platforms else default_platform())
        chosen = [replace(root, target=walk.root(root.target, platform)) for root in roots]
        settled = settle_names(chosen, options.reference)
        publications = _publications(settled, walk)
        size_bytes = sum(publication.size_bytes for publication in publications)
        span.set("archive.blobs", len(publications))
        span.set("archive.size_bytes", size_bytes)
        return Imported(form, _images(settled), publications, len(publications), size_bytes)


def _recognise(holdings: Holdings, content: Content) -> tuple[Format, tuple[Root, ...]]:
    if is_aci(holdings):
        return "aci", aci_roots(holdings, content)
    if is_layout(holdings):
        return "oci", layout_roots(holdings, Walk(content, holdings.sizes()))
    if is_docker_archive(holdings):
        return "docker", docker_roots(holdings, content)
    if is_directory(holdings):
        return "directory", directory_roots(holdings, content)
    raise InvalidArgument(
        "import archive: it holds neither oci-layout with index.json nor manifest.json nor an ACI's manifest and rootfs",
        next_step="save the image anew, e.g. with docker save, ctr image export or skopeo copy",
    )


def _publications(roots: Sequence[Root], walk: Walk) -> tuple[Publication, ...]:
    labels: dict[Digest, Mapping[str, str]] = {}
    for root in roots:
        labels.update(root.labels)
    found = walk.whole([root.target for root in roots])
    return tuple(replace(blob, labels={**blob.labels, **labels.get(blob.digest, {})}) for blob in found)


def _images(roots: Sequence[Root]) -> tuple[ImportedImage, ...]:
    found: dict[ImportedImage, None] = {}
    named = {root.target.digest for root in roots if root.names}
    for root in roots:
        for name in root.names:
            found[ImportedImage(name, plain(root.target))] = None
        if root.target.digest not in named:
            found[ImportedImage(None, plain(root.target))] = None
    return tuple(found)
