"""What this host's content has of an image: for which platform, how large, whether whole."""

from __future__ import annotations

from dataclasses import dataclass

from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument, NotFound
from hythe.oci import ImageConfig, Index, Manifest, default_platform, parse_config, parse_document, select
from hythe.ports.content import Content
from hythe_distribution.documents import has_blob, read_document


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image as far as its content is here.

    Attributes:
        platform: empty when no manifest of the image is here.
        size_bytes: compressed size of config and layers; None when no manifest is here.
        complete: every blob for `platform` is here.
        created: RFC 3339, as the image says; empty when it doesn't or its config isn't here.
    """

    platform: str = ""
    size_bytes: int | None = None
    complete: bool = False
    created: str = ""


def describe(content: Content, root: Digest) -> ImageContent:
    """Return what is here of the image whose root manifest or index is `root`; blocks on reads of its documents.

    Of an index that manifest counts which runs here, or else the first that is here. What cannot be read counts as
    not here: a list of images shows it as incomplete and goes on.
    """
    try:
        manifest = _manifest(content, root)
        if manifest is None:
            return ImageContent()
        raw = read_document(content, manifest.config.digest)
        config: ImageConfig | None = parse_config(raw) if raw is not None else None
    except (InvalidArgument, DataLoss):
        return ImageContent()
    return ImageContent(
        str(config.platform) if config else "",
        manifest.config.size_bytes + sum(layer.size_bytes for layer in manifest.layers),
        config is not None and all(has_blob(content, layer.digest) for layer in manifest.layers),
        config.created if config else "",
    )


def _manifest(content: Content, digest: Digest) -> Manifest | None:
    raw = read_document(content, digest)
    document = parse_document(raw) if raw is not None else None
    if not isinstance(document, Index):
        return document
    for entry in _by_preference(document):
        child = read_document(content, entry)
        if child is not None and isinstance(manifest := parse_document(child), Manifest):
            return manifest
    return None


def _by_preference(index: Index) -> list[Digest]:
    digests = [entry.digest for entry in index.manifests]
    try:
        return [select(index, default_platform()).digest, *digests]
    except NotFound:
        return digests
