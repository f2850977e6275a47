"""Giving a name to an image whose blobs were put into content one by one: nothing gets a name that isn't all there."""

from __future__ import annotations

from collections.abc import Sequence

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.holding import Held
from hythe.oci import Descriptor, Index, Manifest, layers_with_diff_ids, parse_config, parse_document
from hythe.oci.media_types import CONFIG_TYPES, LAYER_COMPRESSION
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.documents import read_document
from hythe_distribution.holding import publish_held, references
from hythe_distribution.image_labels import Brought
from hythe_distribution.listing import ListedImage, Listing
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.tree import Tree, grow, is_document
from hythe_distribution.workers import Workers


class Registrar:
    """Registers images made elsewhere: by a commit, by packing a bundle, by whoever may write to content."""

    def __init__(
        self, library: Library, content: Content, publisher: Publisher, listing: Listing, workers: Workers
    ) -> None:
        """Look into content in threads of `workers`."""
        self._library = library
        self._content = content
        self._publisher = publisher
        self._listing = listing
        self._workers = workers

    async def register(self, namespace: str, reference: Reference, target: Descriptor, held: Held) -> ListedImage:
        """Point `reference` at `target`, an image, an artifact or an index, once all of it is seen to be there.

        What the documents name is referred to, and looked at once more when it is made visible. The blobs get the labels
        that a pull gives them. An image that loses its last name by this becomes a dangling one. May be repeated.

        Raises:
            FailedPrecondition: the namespace has no such blob, or another size of it than is said (details ``digest``); or
                nothing of an index is there.
            InvalidArgument: a document is broken, or of another type than is said; or as for `Naming.point`.
            Unavailable: metadata is away.
        """
        if not is_document(target):
            raise InvalidArgument(f"register {target.digest}: {target.media_type[:100]!r} is no manifest or index")
        with tracing.span("check image", container__image__name=str(reference)):
            brought = await self._workers.run(None, self._find, namespace, target)
        await held.refer(references((brought,)))
        if not await publish_held(self._publisher, held, namespace, (brought,)):
            raise FailedPrecondition(
                f"register {reference}: a blob of it was deleted meanwhile", next_step="put it into content again"
            )
        return await self._listing.register(namespace, reference, brought.tree.root.descriptor)

    def _find(self, namespace: str, target: Descriptor) -> Brought:
        shelf = _Shelf(self._library, self._content, namespace)
        tree = grow(target, shelf.read, shelf.choose, shelf.has)
        if tree.missing:
            raise _missing(tree.missing[0])
        if not tree.manifests and not tree.opaque:
            raise FailedPrecondition(
                f"register {target.digest}: nothing of the index is in namespace {namespace}",
                next_step="put a manifest of it into content first",
                details={"digest": str(target.digest), "kind": "blob"},
            )
        return Brought(tree, (), shelf.diff_ids(tree), foreign=tuple(filter(shelf.has, tree.foreign)))


class _Shelf:
    """What one namespace sees of the content, for `grow`."""

    def __init__(self, library: Library, content: Content, namespace: str) -> None:
        self._content = content
        self._seen = library.of(namespace)

    def read(self, descriptor: Descriptor) -> Manifest | Index | None:
        if not self.has(descriptor):
            return None
        raw = read_document(self._content, descriptor.digest)
        return None if raw is None else parse_document(raw, descriptor.media_type)

    def has(self, blob: Descriptor) -> bool:
        try:
            size_bytes = self._seen.info(blob.digest).size_bytes
            self._content.info(blob.digest)
        except NotFound:
            return False
        if size_bytes != blob.size_bytes:
            raise FailedPrecondition(
                f"register image: {blob.digest} has {size_bytes} bytes, not {blob.size_bytes} as is said of it",
                next_step="write the manifest with the sizes of its blobs",
                details={"digest": str(blob.digest), "kind": "blob"},
            )
        return True

    def choose(self, index: Index) -> Sequence[Descriptor]:
        """Choose the entries that are here; one that is here must be so with all of it."""
        return [entry for entry in index.manifests if self.has(entry)]

    def diff_ids(self, tree: Tree) -> dict[Digest, Digest]:
        """Return the digests of the uncompressed layers of all images; artifacts have none."""
        found: dict[Digest, Digest] = {}
        for node in tree.manifests:
            manifest = node.document
            if isinstance(manifest, Manifest) and _is_image(manifest):
                raw = read_document(self._content, manifest.config.digest)
                if raw is None:
                    raise _missing(manifest.config)
                pairs = layers_with_diff_ids(manifest, parse_config(raw))
                found.update((layer.digest, diff_id) for layer, diff_id in pairs)
        return found


def _is_image(manifest: Manifest) -> bool:
    return manifest.config.media_type in CONFIG_TYPES and all(
        layer.media_type in LAYER_COMPRESSION for layer in manifest.layers
    )


def _missing(blob: Descriptor) -> FailedPrecondition:
    what = "manifest" if is_document(blob) else "blob"
    return FailedPrecondition(
        f"register image: {what} {blob.digest} is not in the namespace's content",
        next_step="put it into content first (`hythe content ingest`, or pull the image that it is of)",
        details={"digest": str(blob.digest), "kind": "blob"},
    )
