"""From a name to a manifest: which image a reference means now, for which platform, and what it consists of."""

from __future__ import annotations

from dataclasses import dataclass

from hythe import tracing
from hythe.digest import Digest, digest_of
from hythe.errors import DataLoss, InvalidArgument, NotFound
from hythe.oci import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    default_platform,
    layers_with_diff_ids,
    parse_config,
    parse_document,
    select,
)
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.oci.media_types import CONFIG_TYPES
from hythe.oci.platform import preference
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.documents import keep_document, read_document
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.registry import Registry

MAX_NESTED_INDEXES = 3


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points to now.

    Attributes:
        target: the root, a manifest or an index.
        platform: what the image's config says it runs on; for a config that doesn't say, what was asked for.
    """

    reference: Reference
    target: Descriptor
    manifest: Manifest
    config: ImageConfig
    platform: Platform

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Each different layer once, lowest first."""
        return tuple({layer.digest: layer for layer in self.manifest.layers}.values())


class Resolver:
    """Asks registries, and believes of a document only what its digest vouches for."""

    def __init__(self, registry: Registry, content: Content) -> None:
        self._registry = registry
        self._content = content

    def resolve(
        self, reference: Reference, platform: Platform | None, plain_http: bool, cancellation: Cancellation
    ) -> Resolved:
        """Return what `reference` means now; root, manifest and config are in the content store then, and nothing else.

        A tag is always asked for at its registry. What the store has is not fetched again; a digest that it has needs
        no network. Blocks: call it in a thread.

        Args:
            platform: platform wanted; this host's by default.

        Raises:
            NotFound: no such image (``kind=image``), or nothing in it for the platform (``kind=platform``).
            InvalidArgument: a document that is broken, ambiguous, too large or no container image.
            DataLoss: the registry lies about a digest or size.
            HytheError: see `hythe_distribution.registry.Registry` and `hythe.ports.content.Content`.
        """
        wanted = platform or default_platform()
        with tracing.span("resolve", container__image__name=str(reference), oci__platform=str(wanted)) as span:
            source = source_of(reference, plain_http)
            root = self._root(source, reference, cancellation)
            span.set("oci.manifest.digest", str(root.digest))
            documents: list[Manifest | Index] = [root]
            while isinstance(document := documents[-1], Index):
                if len(documents) > MAX_NESTED_INDEXES:
                    raise InvalidArgument(
                        f"resolve {reference}: indexes are nested more than {MAX_NESTED_INDEXES} deep"
                    )
                chosen = select(document, wanted)
                documents.append(self._document(source, chosen, cancellation))
            config = self._config(source, document, cancellation)
            layers_with_diff_ids(document, config)
            if document is root:
                _check_platform(reference, config, wanted)
            for found in (config, *reversed(documents)):  # what is pointed to comes before what points to it
                keep_document(self._content, found.raw)
            actual = config.platform if config.platform.architecture else wanted
            return Resolved(reference, root.descriptor, document, config, actual)

    def ensure_manifest(self, source: Source, digest: Digest, cancellation: Cancellation) -> bool:
        """Make sure that a manifest or index known by its digest is in the content store; tell whether it was fetched.

        Raises:
            NotFound, InvalidArgument, DataLoss, HytheError: as for `resolve`.
        """
        if read_document(self._content, digest) is not None:
            return False
        found = self._registry.manifest(source, str(digest), cancellation)
        parse_document(found.raw, found.media_type)
        keep_document(self._content, found.raw)
        return True

    def _root(self, source: Source, reference: Reference, cancellation: Cancellation) -> Manifest | Index:
        digest = reference.digest
        if digest is None:
            head = self._registry.head(source, reference.version, cancellation)
            if head is not None:
                return self._document(source, head, cancellation)
        elif (kept := read_document(self._content, digest)) is not None:
            return parse_document(kept)
        found = self._registry.manifest(source, reference.version, cancellation)
        return parse_document(found.raw, found.media_type)

    def _document(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> Manifest | Index:
        kept = read_document(self._content, descriptor.digest)
        if kept is None:
            found = self._registry.manifest(source, str(descriptor.digest), cancellation)
            kept = found.raw
            parse_document(kept, found.media_type)
        if len(kept) != descriptor.size_bytes:
            raise DataLoss(
                f"resolve {source}@{descriptor.digest}: expected {descriptor.size_bytes} bytes, got {len(kept)}"
            )
        return parse_document(kept, descriptor.media_type)

    def _config(self, source: Source, manifest: Manifest, cancellation: Cancellation) -> ImageConfig:
        descriptor = manifest.config
        if descriptor.media_type not in CONFIG_TYPES:
            raise InvalidArgument(
                f"resolve {source}@{manifest.digest}: it is no container image, its config is a {descriptor.media_type[:100]}"
            )
        if descriptor.size_bytes > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(
                f"resolve {source}@{manifest.digest}: its config has {descriptor.size_bytes} bytes, "
                f"more than {MAX_DOCUMENT_BYTES}"
            )
        kept = read_document(self._content, descriptor.digest)
        return parse_config(kept if kept is not None else self._small_blob(source, descriptor, cancellation))

    def _small_blob(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> bytes:
        data = memoryview(bytearray(descriptor.size_bytes + 1))
        received = 0
        with self._registry.open(source, descriptor, cancellation) as body:
            while received < len(data) and (count := body.readinto(data[received:])):
                received += count
        return _checked(f"resolve {source}", bytes(data[:received]), descriptor.digest, descriptor.size_bytes)


def _checked(step: str, raw: bytes, digest: Digest, size_bytes: int) -> bytes:
    if len(raw) != size_bytes:
        raise DataLoss(f"{step}: expected {size_bytes} bytes for {digest}, got another number")
    if digest_of(raw) != digest:
        raise DataLoss(f"{step}: expected {digest}, got {digest_of(raw)}")
    return raw


def _check_platform(reference: Reference, config: ImageConfig, wanted: Platform) -> None:
    found = config.platform
    if not found.architecture:
        return
    if all(
        (found.os, found.architecture, found.variant) != (p.os, p.architecture, p.variant) for p in preference(wanted)
    ):
        raise NotFound(
            f"resolve {reference}: the image is for {found}, not for {wanted}",
            next_step=f"choose --platform {found}, or an image for {wanted}",
            details={"kind": "platform"},
        )
