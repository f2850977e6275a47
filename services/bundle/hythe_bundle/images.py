"""From an image's digest to its layers: which manifest runs here, what its config says, what each layer is called."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    chain_ids,
    layers_with_diff_ids,
    parse_config,
    parse_document,
    select,
)
from hythe.oci.media_types import CONFIG_TYPES, LAYER_COMPRESSION
from hythe_bundle.content import Blobs, Origin

MAX_NESTED_INDEXES = 3


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        blob: its archive, compressed or not.
        diff_id: digest of the archive uncompressed.
        chain_id: name of the snapshot that it makes on top of those below it.
        parent: chain id of the layer below; empty for the lowest.
    """

    blob: Descriptor
    diff_id: Digest
    chain_id: str
    parent: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform; `layers` lie lowest first."""

    manifest: Manifest
    config: ImageConfig
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """An image whose layers are committed snapshots; `chain_id` names the top one, empty for an image without layers."""

    manifest: Digest
    chain_id: str
    config: ImageConfig


class UnpackedImages(Protocol):
    """Remembers which images are unpacked."""

    def find(self, target: Digest, platform: Platform) -> UnpackedImage | None:
        """Return what was remembered for the root digest `target`; None if nothing was."""

    def by_chain(self, chain_id: str) -> UnpackedImage | None:
        """Return an image that was remembered with this snapshot on top; None if there is none."""

    async def put(self, targets: Collection[Digest], platform: Platform, image: UnpackedImage) -> None:
        """Remember an image under each root digest that leads to it; one durable commit."""

    def uses(self, chain_id: str) -> bool:
        """Tell whether a remembered image has this snapshot on top."""


async def load(blobs: Blobs, origin: Origin, target: Digest, platform: Platform) -> Image:
    """Return the image that the root manifest or index `target` means on `platform`.

    Raises:
        InvalidArgument: a document is broken or ambiguous, indexes are nested more than three deep, or it is no
            container image.
        NotFound: nothing in it is for `platform` (details ``kind=platform``).
        HytheError: see `Blobs`.
    """
    with tracing.span("read image", oci__manifest__digest=str(target), oci__platform=str(platform)):
        raw = await blobs.read_document(origin, target)
        document: Manifest | Index = parse_document(raw)
        depth = 0
        while isinstance(document, Index):
            depth += 1
            if depth > MAX_NESTED_INDEXES:
                raise InvalidArgument(f"read image {target}: indexes are nested more than {MAX_NESTED_INDEXES} deep")
            chosen = select(document, platform)
            raw = await blobs.read_document(origin, chosen.digest, chosen)
            document = parse_document(raw, chosen.media_type)
        wanted = document.config
        if wanted.media_type not in CONFIG_TYPES:
            raise InvalidArgument(
                f"read image {target}: it is no container image, its config is a {wanted.media_type[:100]}"
            )
        config = parse_config(await blobs.read_document(origin, wanted.digest, wanted))
        if depth == 0:
            _check_platform(target, config.platform, platform)
        return Image(document, config, layers_of(document, config))


def _check_platform(target: Digest, found: Platform, wanted: Platform) -> None:
    """Refuse an image that is in no index and whose config says that it is for another platform."""
    if found.architecture and not found.runs_on(wanted):
        raise NotFound(
            f"read image {target}: it is for {found}, not for {wanted}",
            next_step=f"choose an image for {wanted}",
            details={"kind": "platform"},
        )


def layers_of(manifest: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """Return the layers that manifest and config describe together, lowest first.

    Raises:
        InvalidArgument: they don't name the same number of layers, or a layer is no file system layer.
    """
    pairs = layers_with_diff_ids(manifest, config)
    names = chain_ids(config.diff_ids)
    layers = []
    for i, (blob, diff_id) in enumerate(pairs):
        if blob.media_type not in LAYER_COMPRESSION:
            raise InvalidArgument(
                f"read image {manifest.digest}: layer {i + 1} is a {blob.media_type[:100]}, not a file system layer"
            )
        layers.append(Layer(blob, diff_id, str(names[i]), str(names[i - 1]) if i else ""))
    return tuple(layers)
