"""Image configs: which manifests have one, and how it is fetched whole and believed only by its digest."""

from __future__ import annotations

from hythe.digest import digest_of
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci import Descriptor, ImageConfig, Manifest, parse_config
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.oci.media_types import CONFIG_TYPES
from hythe.ports.content import Content
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.documents import read_document
from hythe_distribution.hosts import Source
from hythe_distribution.registry import Registry
from hythe_distribution.shared_documents import SharedDocuments
from hythe_distribution.tree import Node


def is_image(node: Node) -> bool:
    """Tell whether an entry of an index is an image that can run: attestations say that they are for no platform."""
    document, platform = node.document, node.descriptor.platform
    if not isinstance(document, Manifest) or document.config.media_type not in CONFIG_TYPES:
        return False
    return platform is None or "unknown" not in (platform.os, platform.architecture)


def check_is_image(source: Source, node: Node) -> None:
    """Return if a manifest is one of a container image, with a config that can be read.

    Raises:
        InvalidArgument: its config is of another type, or larger than 4 MiB.
    """
    document = node.document
    assert isinstance(document, Manifest)
    config = document.config
    if config.media_type not in CONFIG_TYPES:
        raise InvalidArgument(
            f"resolve {source}@{document.digest}: it is no container image, its config is a {config.media_type[:100]}"
        )
    if config.size_bytes > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(
            f"resolve {source}@{document.digest}: its config has {config.size_bytes} bytes, "
            f"more than {MAX_DOCUMENT_BYTES}"
        )


class Configs:
    """Reads image configs from the content store, or from a registry where they aren't here."""

    def __init__(self, registry: Registry, content: Content, shared: SharedDocuments) -> None:
        """Of those who want the same config at once, the first fetches it; `shared` may have other documents as well."""
        self._registry = registry
        self._content = content
        self._shared = shared

    def read(self, source: Source, manifest: Manifest, cancellation: Cancellation) -> ImageConfig:
        """Return the config of a manifest that `check_is_image` accepts; nothing is kept. Blocks.

        Raises:
            InvalidArgument: it is broken.
            DataLoss: the registry lies about its digest or size.
            HytheError: see `hythe_distribution.registry.Registry`.
        """
        digest = manifest.config.digest
        kept = read_document(self._content, digest)
        if kept is not None:
            return parse_config(kept)
        return parse_config(
            self._shared.get(digest, cancellation, lambda: self._fetch(source, manifest.config, cancellation))
        )

    def _fetch(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> bytes:
        data = memoryview(bytearray(descriptor.size_bytes + 1))
        received = 0
        with self._registry.open(source, descriptor, cancellation) as body:
            while received < len(data) and (count := body.readinto(data[received:])):
                received += count
        raw = bytes(data[:received])
        if len(raw) != descriptor.size_bytes:
            raise DataLoss(
                f"resolve {source}: expected {descriptor.size_bytes} bytes for {descriptor.digest}, got another number"
            )
        if digest_of(raw) != descriptor.digest:
            raise DataLoss(f"resolve {source}: expected {descriptor.digest}, got {digest_of(raw)}")
        return raw
