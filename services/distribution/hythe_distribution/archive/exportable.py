"""What an export will hold: decided, and checked to be here, before the first byte goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hythe.digest import Digest
from hythe.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from hythe.oci import Descriptor, Index, Manifest, Platform, default_platform, parse_config, parse_document, select
from hythe.oci.media_types import CONFIG_TYPES, DOCUMENT_TYPES, INDEX_TYPES
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.archive.roots import plain
from hythe_distribution.archive.storing import stored_document
from hythe_distribution.tree import check_nesting


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which form an archive gets, and what of an index goes into it.

    Attributes:
        format: ``oci`` is an OCI layout, with Docker's list beside it for images of one platform; ``docker`` is a
            docker-archive alone.
        platform: the one taken out of an index; this host's by default.
        all_platforms: takes indexes whole instead; only for ``oci``.
    """

    format: Literal["oci", "docker"] = "oci"
    platform: Platform | None = None
    all_platforms: bool = False


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image under one name, None where it has none at all.

    `manifest` is None for an index that goes out whole, and for what is no container image.
    """

    reference: Reference | None
    target: Descriptor
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class Export:
    """What an export holds: each image once for each name, in the order asked for, and every blob of theirs once."""

    images: tuple[ExportedImage, ...]
    blobs: tuple[Descriptor, ...]


def plan_export(
    roots: Sequence[tuple[Reference | None, Descriptor]], content: Content, options: ExportOptions
) -> Export:
    """Return what an export of `roots` holds; every blob of it is here.

    Raises:
        InvalidArgument: no roots; an index whole, or what is no container image, into a docker-archive; a broken document.
        NotFound: a root isn't here (details ``kind=blob``), or nothing in it is for the platform (``kind=platform``).
        FailedPrecondition: a blob below a root isn't here; the message names it.
        DataLoss: the disk has changed a document, or a blob's size.
    """
    if not roots:
        raise InvalidArgument("export archive: no image is named")
    planner = _Planner(content, options)
    images = tuple(planner.image(reference, target) for reference, target in roots)
    named = {image.target.digest for image in images if image.reference is not None}
    kept = [image for image in images if image.reference is not None or image.target.digest not in named]
    return Export(tuple(dict.fromkeys(kept)), tuple(planner.blobs.values()))


def _fitting(reference: Reference | None, target: Descriptor) -> Reference | None:
    """Return a name without its digest where that isn't the exported one's, as of an index of which one platform goes out."""
    if reference is None or reference.digest in (None, target.digest):
        return reference
    return replace(reference, digest=None) if reference.tag is not None else None


class _Planner:
    def __init__(self, content: Content, options: ExportOptions) -> None:
        self._content = content
        self._options = options
        self._what = ""
        self._seen: set[Descriptor] = set()
        self.blobs: dict[Digest, Descriptor] = {}

    def image(self, reference: Reference | None, root: Descriptor) -> ExportedImage:
        """Take note of all blobs of one image; see `plan_export`."""
        self._what = f"export {reference or root.digest}"
        if root.media_type not in DOCUMENT_TYPES:
            raise InvalidArgument(f"{self._what}: its type {root.media_type[:100]} is no image's")
        try:
            self._content.info(root.digest)
        except NotFound:
            raise NotFound(f"{self._what}: {root.digest} is not here", details={"kind": "blob"}) from None
        target = root
        document = self._document(target)
        depth = 0
        while isinstance(document, Index) and not self._options.all_platforms:
            check_nesting(self._what, depth)
            target = select(document, self._options.platform or default_platform())
            document = self._document(target)
            depth += 1
        if isinstance(document, Index):
            if self._options.format == "docker":
                raise InvalidArgument(
                    f"{self._what}: a docker-archive holds one platform", next_step="choose one, or the format oci"
                )
            self._add_index(target, document, 0)
            return ExportedImage(_fitting(reference, target), plain(target), None)
        self._add_manifest(target, document)
        is_image = document.config.media_type in CONFIG_TYPES
        if is_image:
            self._check_platform(document)
        elif self._options.format == "docker":
            raise InvalidArgument(f"{self._what}: it is no container image, which is all that a docker-archive holds")
        return ExportedImage(_fitting(reference, target), plain(target), document if is_image else None)

    def _document(self, target: Descriptor) -> Manifest | Index:
        self._check(target, "index" if target.media_type in INDEX_TYPES else "manifest")
        return parse_document(stored_document(self._content, target.digest), target.media_type)

    def _add_index(self, target: Descriptor, index: Index, depth: int) -> None:
        check_nesting(self._what, depth)
        for child in index.manifests:
            if child.media_type not in DOCUMENT_TYPES:
                self._add(child, "blob")
                continue
            if child in self._seen:
                continue
            self._seen.add(child)
            document = self._document(child)
            if isinstance(document, Index):
                self._add_index(child, document, depth + 1)
            else:
                self._add_manifest(child, document)
        self._add(target, "index")

    def _add_manifest(self, target: Descriptor, manifest: Manifest) -> None:
        self._add(manifest.config, "config")
        for layer in manifest.layers:
            self._add(layer, "layer")
        self._add(target, "manifest")

    def _add(self, blob: Descriptor, kind: str) -> None:
        self._check(blob, kind)
        self.blobs.setdefault(blob.digest, blob)

    def _check(self, blob: Descriptor, kind: str) -> None:
        try:
            size_bytes = self._content.info(blob.digest).size_bytes
        except NotFound:
            platform = f" for {blob.platform}" if blob.platform is not None else ""
            raise FailedPrecondition(
                f"{self._what}: {kind} {blob.digest}{platform} is not here",
                next_step="pull the image whole (with all platforms, if that is what you export)",
                details={"kind": "blob"},
            ) from None
        if size_bytes != blob.size_bytes:
            raise DataLoss(f"{self._what}: {kind} {blob.digest} has {size_bytes} bytes, not {blob.size_bytes}")

    def _check_platform(self, manifest: Manifest) -> None:
        wanted = self._options.platform
        if wanted is None:
            return
        found = parse_config(stored_document(self._content, manifest.config.digest)).platform
        if found.architecture and not found.runs_on(wanted):
            raise NotFound(
                f"{self._what}: the image is for {found}, not for {wanted}",
                next_step=f"choose --platform {found}, or an image for {wanted}",
                details={"kind": "platform"},
            )
