"""The labels by which the blobs of an image keep each other: containerd's, so that its tools read them."""

from __future__ import annotations

from hythe.oci import Index, Manifest

_REFERENCE = "containerd.io/gc.ref.content."
UNCOMPRESSED = "containerd.io/uncompressed"
"""On a layer: the digest of its uncompressed bytes."""


def child_labels(document: Manifest | Index) -> dict[str, str]:
    """Return the labels of a manifest's or index's own blob: one for each blob that must stay as long as it does."""
    if isinstance(document, Index):
        return {f"{_REFERENCE}m.{i}": str(child.digest) for i, child in enumerate(document.manifests)}
    layers = {f"{_REFERENCE}l.{i}": str(layer.digest) for i, layer in enumerate(document.layers)}
    return {f"{_REFERENCE}config": str(document.config.digest), **layers}
