"""From a name to documents: what a reference means now, for which platforms, and what it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    default_platform,
    layers_with_diff_ids,
    parse_document,
)
from hythe.oci.platform import preference, require_runs
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.blame import naming
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.configs import Configs, check_is_image, is_image
from hythe_distribution.documents import keep_document, read_document
from hythe_distribution.gathering import all_of
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.registry import Registry
from hythe_distribution.shared_documents import SharedDocuments
from hythe_distribution.tree import (
    Choose,
    Node,
    Tree,
    check_nesting,
    check_total,
    everything,
    for_platform,
    grow,
    is_document,
)
from hythe_distribution.workers import Workers


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """One image that can run: a manifest and its config.

    Attributes:
        platform: what the config says it runs on; for a config that doesn't say, what its index says or was asked for.
    """

    manifest: Manifest
    config: ImageConfig
    platform: Platform

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Each different layer once, lowest first."""
        return tuple({layer.digest: layer for layer in self.manifest.layers}.values())


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference points to now.

    Attributes:
        target: the root, a manifest or an index.
        images: what can run of it and was asked for, in the order of the index.
        chosen: of these the one that runs on the platform asked for, or else the first.
        tree: all that was asked for.
    """

    reference: Reference
    target: Descriptor
    images: tuple[PlatformImage, ...]
    chosen: PlatformImage
    tree: Tree


class Resolver:
    """Asks registries, and believes of a document only what its digest vouches for."""

    def __init__(self, registry: Registry, content: Content, workers: Workers) -> None:
        """Ask and read in threads of `workers`."""
        self._registry = registry
        self._content = content
        self._workers = workers
        self._shared = SharedDocuments()
        self._configs = Configs(registry, content, self._shared)

    async def resolve(
        self, reference: Reference, platform: Platform | None, plain_http: bool, *, all_platforms: bool = False
    ) -> Resolved:
        """Return what `reference` means now, with all of its documents and configs in memory; nothing is stored.

        A tag is always asked for at its registry. What the store has is not fetched again; a digest that it has needs
        no network. Once it has been referred to (ARCHITECTURE §7), `keep` stores it.

        Args:
            platform: platform wanted; this host's by default.
            all_platforms: take every entry of an index; `platform` says only which one is `Resolved.chosen`.

        Raises:
            NotFound: no such image (``kind=image``), or nothing in it for the platform (``kind=platform``).
            InvalidArgument: a document that is broken, ambiguous, too large or no container image.
            DataLoss: the registry lies about a digest or size.
            HytheError: see `hythe_distribution.registry.Registry` and `hythe.ports.content.Content`.
        """
        wanted = platform or default_platform()
        named = tracing.span("resolve", container__image__name=str(reference), oci__platform=str(wanted))
        with naming(f"resolve {reference}"), named as span:
            source, cancellation = source_of(reference, plain_http), Cancellation()
            root = await self._root(source, reference, cancellation)
            span.set("oci.manifest.digest", str(root.digest))
            tree = await self._tree(source, root, everything if all_platforms else for_platform(wanted), cancellation)
            nodes = [node for node in tree.manifests if len(tree.manifests) == 1 or is_image(node)]
            for node in nodes:
                check_is_image(source, node)
            images = tuple(await all_of(self._image(source, node, wanted, cancellation) for node in nodes))
            if not images:
                raise InvalidArgument(f"resolve {reference}: no container image is in the index")
            if isinstance(root, Manifest) and not all_platforms:
                require_runs(f"resolve {reference}", images[0].config.platform, wanted)
            return Resolved(reference, root.descriptor, images, _chosen(images, wanted), tree)

    async def tree(self, reference: Reference, plain_http: bool, choose: Choose) -> Tree:
        """Return what `reference` means now, whether that is a container image or not; nothing is stored.

        Raises:
            HytheError: as for `resolve`.
        """
        with naming(f"resolve {reference}"), tracing.span("resolve", container__image__name=str(reference)) as span:
            source, cancellation = source_of(reference, plain_http), Cancellation()
            root = await self._root(source, reference, cancellation)
            span.set("oci.manifest.digest", str(root.digest))
            return await self._tree(source, root, choose, cancellation)

    async def keep(self, tree: Tree, images: Sequence[PlatformImage] = ()) -> None:
        """Put all documents of `tree` and the configs of `images` into the content store; durable when this returns.

        Raises:
            HytheError: see `hythe_distribution.documents.keep_document`.
        """
        await self._workers.run(None, self._keep, tree, images)

    async def subject(self, reference: Reference, platform: Platform | None, plain_http: bool) -> Digest:
        """Return the digest that `reference` means now, or with `platform` that of its manifest; nothing is kept.

        Raises:
            HytheError: as for `resolve`.
        """
        if platform is None and reference.digest is not None:
            return reference.digest
        with naming(f"resolve {reference}"), tracing.span("resolve", container__image__name=str(reference)):
            source, cancellation = source_of(reference, plain_http), Cancellation()
            root = await self._root(source, reference, cancellation)
            if platform is None:
                return root.digest
            tree = await self._tree(source, root, for_platform(platform), cancellation)
            return tree.manifests[0].descriptor.digest

    def ensure_manifest(self, source: Source, digest: Digest, cancellation: Cancellation) -> bool:
        """Make sure that a manifest or index known by its digest is in the content store; tell whether it was fetched.

        Blocks: call it in a thread.

        Raises:
            NotFound, InvalidArgument, DataLoss, HytheError: as for `resolve`.
        """
        if read_document(self._content, digest) is not None:
            return False
        found = self._registry.manifest(source, str(digest), cancellation)
        with naming(f"resolve {source}@{digest}"):
            parse_document(found.raw, found.media_type)
        keep_document(self._content, found.raw)
        return True

    def ensure_opaque(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> int:
        """Fetch an entry of an index that the registry keeps among its manifests, though its type is none of theirs.

        Blocks: call it in a thread. Returns the bytes that were fetched.

        Raises:
            NotFound, DataLoss, HytheError: as for `resolve`.
        """
        found = self._registry.manifest(source, str(descriptor.digest), cancellation)
        _check_size(source, descriptor, found.raw)
        keep_document(self._content, found.raw)
        return len(found.raw)

    async def _root(self, source: Source, reference: Reference, cancellation: Cancellation) -> Manifest | Index:
        return await self._workers.run(cancellation, self._ask_root, source, reference, cancellation)

    def _ask_root(self, source: Source, reference: Reference, cancellation: Cancellation) -> Manifest | Index:
        digest = reference.digest
        if digest is None:
            head = self._registry.head(source, reference.version, cancellation)
            if head is not None:
                return self._document(source, head, cancellation)
        elif (kept := read_document(self._content, digest)) is not None:
            return parse_document(kept)
        found = self._registry.manifest(source, reference.version, cancellation)
        return parse_document(found.raw, found.media_type)

    async def _tree(self, source: Source, root: Manifest | Index, choose: Choose, cancellation: Cancellation) -> Tree:
        """Fetch what is not here of the documents below `root`, all of one level at once."""
        documents: dict[Digest, Manifest | Index] = {root.digest: root}
        level: list[Manifest | Index] = [root]
        total_bytes, depth = len(root.raw), 0
        while indexes := [document for document in level if isinstance(document, Index)]:
            depth += 1
            check_nesting(f"read {source}", depth)
            entries = {
                entry.digest: entry
                for index in indexes
                for entry in choose(index)
                if is_document(entry) and entry.digest not in documents
            }
            total_bytes += sum(entry.size_bytes for entry in entries.values())
            check_total(str(source), len(documents) + len(entries), total_bytes)
            level = await all_of(
                self._workers.run(cancellation, self._document, source, entry, cancellation)
                for entry in entries.values()
            )
            documents.update((document.digest, document) for document in level)
        return grow(root.descriptor, lambda descriptor: documents[descriptor.digest], choose)

    def _document(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> Manifest | Index:
        kept = read_document(self._content, descriptor.digest)
        if kept is None:
            kept = self._shared.get(
                descriptor.digest, cancellation, lambda: self._fetch_document(source, descriptor, cancellation)
            )
        _check_size(source, descriptor, kept)
        return parse_document(kept, descriptor.media_type)

    def _fetch_document(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> bytes:
        found = self._registry.manifest(source, str(descriptor.digest), cancellation)
        parse_document(found.raw, found.media_type)
        return found.raw

    async def _image(self, source: Source, node: Node, wanted: Platform, cancellation: Cancellation) -> PlatformImage:
        assert isinstance(node.document, Manifest)
        config = await self._workers.run(cancellation, self._configs.read, source, node.document, cancellation)
        layers_with_diff_ids(node.document, config)
        said = config.platform if config.platform.architecture else node.descriptor.platform
        return PlatformImage(node.document, config, said or wanted)

    def _keep(self, tree: Tree, images: Sequence[PlatformImage]) -> None:
        for image in images:
            keep_document(self._content, image.config.raw)
        for node in tree.nodes:  # what is pointed to comes before what points to it
            keep_document(self._content, node.document.raw)


def _check_size(source: Source, descriptor: Descriptor, raw: bytes) -> None:
    if len(raw) != descriptor.size_bytes:
        raise DataLoss(f"resolve {source}@{descriptor.digest}: expected {descriptor.size_bytes} bytes, got {len(raw)}")


def _chosen(images: Sequence[PlatformImage], wanted: Platform) -> PlatformImage:
    for platform in preference(wanted):
        for image in images:
            if image.platform.matches(platform):
                return image
    return images[0]
