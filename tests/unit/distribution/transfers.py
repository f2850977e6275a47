"""What tests of pushes, copies and whole pulls work with: strict registries, a store and names, all in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hythe.digest import Digest, parse_digest
from hythe.errors import NotFound
from hythe.holding import Holder
from hythe.oci import Descriptor, default_platform
from hythe.reference import Reference, parse_reference
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.bringing import Bringer
from hythe_distribution.copying import Copier
from hythe_distribution.fetcher import BlobProgress, Fetcher
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.lookup import Found
from hythe_distribution.names import dangling_reference
from hythe_distribution.namespace_store import Library
from hythe_distribution.progress import SendProgress
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.push import Pusher
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolved, Resolver
from hythe_distribution.sending import Sender
from hythe_distribution.workers import Workers
from scripts.lab.images import OCI_INDEX, OCI_MANIFEST, Blob, Image, ImageBuilder, Index, Layer, encode
from tests.fakes.fetching import Counts
from tests.fakes.leases import MemoryLeases
from tests.fakes.names import Names
from tests.fakes.strict_registry import StrictRegistry

REFERENCE = parse_reference("registry.example/app:1")
SOURCE = source_of(REFERENCE, False)
OTHER_ARCHITECTURE = "arm64" if default_platform().architecture == "amd64" else "amd64"
OTHER_PLATFORM = f"linux/{OTHER_ARCHITECTURE}"
ATTESTATION = {"os": "unknown", "architecture": "unknown"}
FOREIGN_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def an_image(name: str, architecture: str | None = None, layers: int = 2) -> Image:
    """Return an image whose layers hold a directory each."""
    builder = ImageBuilder() if architecture is None else ImageBuilder(architecture=architecture)
    for i in range(layers):
        builder = builder.layer(Layer().directory(f"{name}{i}"), "none")
    return builder.build()


def artifact(name: str, subject: Blob | None = None) -> Image:
    """Return a manifest of something that is no container image: an attestation, or with `subject` a signature of it."""
    config, layer = (
        Blob(b"{}", "application/vnd.oci.empty.v1+json"),
        Blob(name.encode(), "application/vnd.in-toto+json"),
    )
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    if subject is not None:
        fields["subject"] = subject.descriptor()
    return Image(Blob(encode(fields), OCI_MANIFEST), (config, layer), "", "")


def index_of(images: Sequence[Image], entries: Sequence[dict[str, Any]] = ()) -> Index:
    """Return an index of `images`, artifacts as attestations, and of further `entries`."""
    own = [
        image.manifest.descriptor(
            platform={"os": image.os, "architecture": image.architecture} if image.os else ATTESTATION
        )
        for image in images
    ]
    root = Blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*own, *entries]}), OCI_INDEX)
    return Index(root, tuple(images))


def with_foreign_layer(image: Image, data: bytes, url: str) -> Image:
    """Return `image` with its lowest layer in the place `url`."""
    layer = Blob(data, FOREIGN_TYPE)
    fields = json.loads(image.manifest.data)
    fields["layers"][0] = layer.descriptor(urls=[url])
    return Image(
        Blob(encode(fields), image.manifest.media_type),
        (image.config, layer, *image.layers[1:]),
        image.os,
        image.architecture,
    )


def digest(blob: Blob) -> Digest:
    """Return the digest of a blob."""
    return parse_digest(blob.digest)


def digests(image: Image | Index) -> set[Digest]:
    """Return the digests of all that an image consists of."""
    return {digest(blob) for blob in (*image.manifests, *image.blobs)}


class NamedRoots:
    """A body of `hythe_distribution.push.Finder` on the names that pulls registered."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def find(self, namespace: str, text: str) -> Found:
        """See `hythe_distribution.lookup.Lookup.find`; a digest is an image without a name."""
        if text.startswith("sha256:"):
            root = parse_digest(text)
            return Found(dangling_reference(root), root, _target(root), False)
        reference = parse_reference(text)
        found = (await self._names.get(namespace, reference)).digest
        if found is None:
            raise NotFound(f"find image {text}: there is none", details={"kind": "image"})
        return Found(reference, found, _target(found), True)


def _target(root: Digest) -> Descriptor:
    return Descriptor(OCI_MANIFEST, root, 0)


class Verdict:
    """A body of `hythe_distribution.verification.ImageVerifier` that says what a test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Descriptor]] = []
        self.refusal: Exception | None = None

    async def judge(self, name: str, target: Descriptor) -> None:
        """See `hythe_distribution.verification.ImageVerifier.judge`."""
        self.asked.append((name, target))
        if self.refusal is not None:
            raise self.refusal


class Transfers:
    """A puller, pusher and copier with all that they work with.

    Attributes:
        news: what pulls told; `sends` what pushes and copies did.
        holder: makes holds in `leases`; a name that is given ends the lease that is named with it.
    """

    def __init__(self, content: MemoryContent | None = None) -> None:
        content = content or MemoryContent()
        self.registry, self.leases = StrictRegistry(), MemoryLeases()
        self.content, self.records, self.names, self.verdict = content, MemoryRecords(), Names(), Verdict()
        self.holder, self.names.on_lease = Holder(self.leases), self.leases.end_with_name
        self.workers = {name: Workers(name, 4) for name in ("download", "upload", "question")}
        questions = self.workers["question"]
        self.fetcher = Fetcher(self.registry, self.content, self.workers["download"], questions, Counts())
        self.resolver = Resolver(self.registry, self.content, questions)
        self.bringer = bringer = Bringer(self.fetcher, self.resolver, questions)
        self.referrers = Referrers(self.registry, self.resolver, questions)
        self.library = Library(self.content, self.records)
        self.publisher = Publisher(self.content, self.records, questions, self.library.publish)
        self.puller = Puller(
            self.resolver, bringer, self.referrers, self.content, self.publisher, self.names, self.verdict, questions
        )
        sender = Sender(self.registry, self.workers["upload"])
        self.pusher = Pusher(NamedRoots(self.names), self.content, self.publisher, sender, questions)
        self.copier = Copier(
            self.resolver, bringer, self.referrers, self.content, self.publisher, sender, self.verdict, questions
        )
        self.news: list[Resolved | BlobProgress] = []
        self.sends: list[SendProgress] = []

    async def close(self) -> None:
        """End all threads."""
        await self.fetcher.close()
        for workers in self.workers.values():
            workers.close()

    def serve(self, image: Image | Index, reference: Reference = REFERENCE) -> None:
        """Serve an image by the tag and the digest of its root."""
        source = source_of(reference, False)
        for blob in image.blobs:
            self.registry.serve(source, blob.data)
        for manifest in image.manifests:
            self.registry.tag(source, manifest.digest, manifest.media_type, manifest.data)
        self.registry.tag(source, reference.version, image.root.media_type, image.root.data)

    def serve_referrer(self, image: Image, subject: Blob, source: Source = SOURCE) -> None:
        """Serve an artifact and list it as one about `subject`."""
        for blob in image.blobs:
            self.registry.serve(source, blob.data)
        self.registry.tag(source, image.manifest.digest, image.manifest.media_type, image.manifest.data)
        entry = Descriptor(image.manifest.media_type, digest(image.manifest), len(image.manifest.data))
        self.registry.add_referrer(source, digest(subject), entry)

    async def pull(self, reference: Reference = REFERENCE, **wish: Any) -> Any:
        """Pull an image into the namespace ``default``."""
        async with self.holder.hold("default", "pull") as held:
            return await self.puller.pull("default", Wish(reference, **wish), held, self.news.append)

    def here(self) -> set[Digest]:
        """Return the digests of all blobs in the store."""
        return {info.digest for info in self.content.walk()}

    def visible(self) -> set[Digest]:
        """Return the digests of all blobs that the namespace sees."""
        return {blob.digest for blob in self.records.walk("default")}

    def labels(self, blob: Blob) -> dict[str, str]:
        """Return the labels of a blob in the namespace."""
        return dict(self.records.get("default", digest(blob)).labels)
