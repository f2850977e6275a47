"""The media types that Hythe knows: OCI image-spec 1.1 and Docker schema 2."""

from __future__ import annotations

from typing import Literal

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
DOCUMENT_TYPES = INDEX_TYPES | MANIFEST_TYPES
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

Compression = Literal["", "gzip", "zstd"]

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"

LAYER_COMPRESSION: dict[str, Compression] = {
    _OCI_LAYER: "",
    f"{_OCI_LAYER}+gzip": "gzip",
    f"{_OCI_LAYER}+zstd": "zstd",
    _OCI_FOREIGN_LAYER: "",
    f"{_OCI_FOREIGN_LAYER}+gzip": "gzip",
    f"{_OCI_FOREIGN_LAYER}+zstd": "zstd",
    _DOCKER_LAYER: "",
    f"{_DOCKER_LAYER}.gzip": "gzip",
    f"{_DOCKER_LAYER}.zstd": "zstd",
    _DOCKER_FOREIGN_LAYER: "",
    f"{_DOCKER_FOREIGN_LAYER}.gzip": "gzip",
}
"""How a layer of each known media type is compressed; any other type is no file system layer."""


def is_foreign(media_type: str) -> bool:
    """Tell whether a layer of this type may not be handed on by registries, so that its ``urls`` say where it is.

    Spec: OCI image-spec, "Non-Distributable Layers"; Docker schema 2, "Image Manifest Field Descriptions" (urls).
    """
    return media_type.startswith((_OCI_FOREIGN_LAYER, _DOCKER_FOREIGN_LAYER))
