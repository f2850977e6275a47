"""The documents of an image that is another one with a layer on top: pure functions, equal input gives equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hythe.clock import rfc3339_of
from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, ImageConfig, Manifest, Platform, layers_with_diff_ids
from hythe.oci.manifest import MAX_LAYERS
from hythe.oci.media_types import CONFIG_TYPES, DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST
from hythe_bundle.instructions import apply_instructions

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
_DOCKER_LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar+gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.oci.image.layer.v1.tar": "application/vnd.docker.image.rootfs.diff.tar",
}
_OF_THE_BUILD = ("container", "container_config", "docker_version", "id", "parent", "author")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What the new image stands on.

    Attributes:
        name: what it was asked for by; empty when unknown.
    """

    manifest: Manifest
    config: ImageConfig
    name: str = ""


@dataclass(frozen=True, slots=True)
class ImageWish:
    """What is to be said of the new image.

    Attributes:
        created_ns: when it was made, nanoseconds since 1970.
        created_by: the command that made the layer.
        instructions: see `hythe_bundle.instructions`.
    """

    created_ns: int
    created_by: str = ""
    author: str = ""
    comment: str = ""
    instructions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewLayer:
    """The layer on top: its blob, of an OCI type, and the digest of its uncompressed bytes."""

    blob: Descriptor
    diff_id: Digest


def check(base: BaseImage | None, wish: ImageWish) -> None:
    """Return if an image can be made of these.

    Raises:
        InvalidArgument: an instruction is refused, the base is no container image, or has as many layers as an image may.
    """
    if base is not None:
        if base.manifest.config.media_type not in CONFIG_TYPES:
            raise InvalidArgument(f"make image: its base {base.manifest.digest} is no container image")
        if len(layers_with_diff_ids(base.manifest, base.config)) >= MAX_LAYERS:
            raise InvalidArgument(f"make image: its base has {MAX_LAYERS} layers, more than that an image may not have")
    apply_instructions(_config_of(base), wish.instructions)


def make_config(base: BaseImage | None, wish: ImageWish, layer: NewLayer, platform: Platform) -> bytes:
    """Return the config of the new image: that of its base, changed as is wished, with one more layer and step of history.

    Args:
        platform: where an image without a base runs.

    Spec: OCI image-spec, "Image Configuration".
    """
    created = rfc3339_of(wish.created_ns)
    step = {"created": created, "created_by": wish.created_by, "author": wish.author, "comment": wish.comment}
    document = dict(json.loads(base.config.raw)) if base is not None else _platform(platform)
    for field in _OF_THE_BUILD:
        document.pop(field, None)
    diff_ids = [str(diff_id) for diff_id in base.config.diff_ids] if base is not None else []
    document.update(
        created=created,
        config=apply_instructions(_config_of(base), wish.instructions),
        rootfs={"type": "layers", "diff_ids": [*diff_ids, str(layer.diff_id)]},
        history=[*_history(base, document), {key: value for key, value in step.items() if value}],
    )
    if wish.author:
        document["author"] = wish.author
    return canonical(document)


def config_type(base: BaseImage | None) -> str:
    """Return the media type of the new image's config: as its manifest, of the base's kind."""
    return DOCKER_CONFIG if base is not None and base.manifest.media_type == DOCKER_MANIFEST else OCI_CONFIG


def make_manifest(base: BaseImage | None, config: Descriptor, layer: NewLayer) -> tuple[str, bytes]:
    """Return media type and bytes of the new image's manifest: the base's layers as they stand there, and one more.

    It is of the base's kind, Docker's or OCI's, for no registry has to take a mixture.

    Spec: OCI image-spec, "Image Manifest"; Docker image manifest version 2, schema 2.
    """
    docker = base is not None and base.manifest.media_type == DOCKER_MANIFEST
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    layers: Sequence[Any] = json.loads(base.manifest.raw)["layers"] if base is not None else ()
    blob = layer.blob
    layer_type = _DOCKER_LAYER_TYPES[blob.media_type] if docker else blob.media_type
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _descriptor(config.media_type, config.digest, config.size_bytes),
        "layers": [*layers, _descriptor(layer_type, blob.digest, blob.size_bytes)],
    }
    if base is not None and not docker:
        document["annotations"] = {
            BASE_DIGEST: str(base.manifest.digest),
            **({BASE_NAME: base.name} if base.name else {}),
        }
    return media_type, canonical(document)


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return a JSON object in the one spelling that Hythe writes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _history(base: BaseImage | None, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of the base, with one for each layer that it says nothing of: readers count them."""
    steps = list(document.get("history") or ())
    told = sum(not step.get("empty_layer") for step in steps)
    layers = len(base.config.diff_ids) if base is not None else 0
    return [*({"comment": "layer of the base image"} for _ in range(layers - told)), *steps]


def _config_of(base: BaseImage | None) -> dict[str, Any]:
    return dict(json.loads(base.config.raw).get("config") or {}) if base is not None else {}


def _platform(platform: Platform) -> dict[str, Any]:
    found = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    return {key: value for key, value in found.items() if value}


def _descriptor(media_type: str, digest: Digest, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size_bytes}
