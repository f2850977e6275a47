"""A catalogue on content and names in memory, and images to put into it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hythe.digest import Digest, parse_digest
from hythe.oci import Descriptor, default_platform
from hythe.ports.content import Content
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.catalogue import Catalogue, catalogue
from hythe_distribution.images import ImageContent, read_image, summarise
from hythe_distribution.names import Naming
from hythe_distribution.parsed import Documents
from hythe_distribution.presence import asked
from hythe_distribution.workers import Workers
from scripts.lab.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Blob, Image, Index, encode
from tests.fakes.names import MemoryNames

OTHER_ARCHITECTURE = "arm64" if default_platform().architecture == "amd64" else "amd64"


class Bench:
    """A catalogue with all that it works on."""

    def __init__(self, workers: Workers) -> None:
        self.content = MemoryContent()
        self.records = MemoryNames()
        self.naming = Naming(self.records)
        self.catalogue: Catalogue = catalogue(self.naming, self.content, workers)

    def keep(self, *blobs: Blob) -> None:
        """Have blobs in the store."""
        for blob in blobs:
            with self.content.open_ingest(blob.digest) as ingest:
                ingest.write(blob.data)
                ingest.commit(parse_digest(blob.digest), len(blob.data))

    def have(self, image: Image | Index, *names: str, namespace: str = "default") -> Digest:
        """Have all of an image under names; return its root."""
        self.keep(*image.blobs, *image.manifests)
        for name in names:
            self.records.move(name, target_of(image.root), namespace)
        return parse_digest(image.root.digest)

    def lose(self, *blobs: Blob) -> None:
        """Have no longer some blobs."""
        for blob in blobs:
            self.content.delete(parse_digest(blob.digest))


@contextmanager
def bench() -> Iterator[Bench]:
    """Run a block with a bench."""
    workers = Workers("test", 2)
    try:
        yield Bench(workers)
    finally:
        workers.close()


def target_of(root: Blob) -> Descriptor:
    """Return the descriptor of a root."""
    return Descriptor(root.media_type, parse_digest(root.digest), len(root.data))


def image_of(
    layers: Sequence[bytes] = (),
    history: Sequence[object] | None = None,
    architecture: str = "",
    labels: dict[str, str] | None = None,
    **config: object,
) -> Image:
    """Return an image of any layers, which need not be archives, with a config of its own where the bytes say nothing.

    Args:
        config: further fields of the image config.
    """
    machine = architecture or default_platform().architecture
    blobs = [Blob(data, OCI_LAYER) for data in layers]
    fields: dict[str, object] = {
        "os": "linux",
        "architecture": machine,
        "config": {"Labels": labels or {}},
        "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in blobs]},
        **config,
    }
    if history is not None:
        fields["history"] = list(history)
    return image_from(Blob(encode(fields), OCI_CONFIG), blobs, machine)


def image_from(config: Blob, layers: Sequence[Blob], architecture: str = "") -> Image:
    """Return an image with a given config, whatever is in it."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    return Image(Blob(encode(manifest), OCI_MANIFEST), (config, *layers), "linux", architecture)


def noise(size_bytes: int = 100) -> bytes:
    """Return bytes that no other layer has."""
    return os.urandom(size_bytes)


def describe(content: Content, root: Digest) -> ImageContent:
    """Return what is here of the image of that root, in a few words."""
    return summarise(read_image(Documents(content), asked(content), Descriptor("", root, 0)))
