"""What belongs to an image that came in an archive, and whether all of it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument, NotFound
from hythe.oci import Descriptor, Index, Manifest, Platform, layers_with_diff_ids, parse_config, parse_document, select
from hythe.oci.media_types import CONFIG_TYPES, DOCUMENT_TYPES, LAYER_COMPRESSION, MANIFEST_TYPES
from hythe.ports.content import Content
from hythe_distribution.archive.storing import stored_document
from hythe_distribution.image_labels import child_labels
from hythe_distribution.records import Publication
from hythe_distribution.tree import check_nesting

MAX_REFERENCES = 50_000
"""Most blobs that all documents of an archive name together, each time counted: it bounds the labels held in memory."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the archive holds of a manifest or index.

    Attributes:
        publications: its blobs by digest, with the labels that keep them.
        missing: what did not come, in words; empty when it is complete.
        images: how many complete manifests of container images are in it.
    """

    publications: Mapping[Digest, Publication] = field(default_factory=dict, hash=False)
    missing: str = ""
    images: int = 0


class Walk:
    """Walks from roots to blobs. Only what came in the archive counts: the store may have blobs that are not the sender's."""

    def __init__(self, content: Content, sizes: Mapping[Digest, int]) -> None:
        """Walk among the blobs of `sizes`, the archive's, all of which `content` has."""
        self._content = content
        self._sizes = sizes
        self._trees: dict[tuple[str, Digest, int], Held] = {}
        self._references = 0

    def root(self, target: Descriptor, platform: Platform | None) -> Descriptor:
        """Return `target`, or of an index the manifest for `platform` where one is given.

        Raises:
            NotFound: nothing in it is for `platform` (details ``kind=platform``).
            InvalidArgument: a document isn't in the archive or is broken.
        """
        document = self.document(target)
        if platform is None:
            return target
        depth = 0
        while isinstance(document, Index):
            depth += 1
            check_nesting("import archive", depth)
            target = select(document, platform)
            document = self.document(target)
        self._check_platform(document, platform)
        return target

    def whole(self, targets: Sequence[Descriptor]) -> tuple[Publication, ...]:
        """Return the blobs of images that can all be used: each a complete manifest, or an index with at least one.

        What is pointed to comes before what points to it.

        Raises:
            InvalidArgument: what is needed isn't in the archive, or a document is broken; the message names it.
            DataLoss: a blob has another size than its descriptor says.
        """
        found: dict[Digest, Publication] = {}
        for target in targets:
            tree = self._tree(target, 0)
            if tree.missing and not tree.images:
                raise InvalidArgument(
                    f"import archive: {tree.missing} is not in it",
                    next_step="save the image again with all its blobs (ctr image export, skopeo copy --all)",
                )
            _add(found, tree)
        return tuple(found.values())

    def document(self, target: Descriptor) -> Manifest | Index:
        """Return a manifest or index from the archive.

        Raises:
            InvalidArgument: it isn't in the archive, is larger than 4 MiB or broken.
            DataLoss: it has another size than its descriptor says.
        """
        if not self._has(target):
            raise InvalidArgument(f"import archive: manifest {target.digest} is not in it")
        return parse_document(stored_document(self._content, target.digest), target.media_type)

    def configs(self, target: Descriptor) -> frozenset[Digest]:
        """Return the digests of the configs of an image, by which Docker knows it: one, or of an index all that are here.

        Raises:
            InvalidArgument, DataLoss: as for `document`.
        """
        document = self.document(target)
        if isinstance(document, Manifest):
            return frozenset({document.config.digest})
        children = [child for child in document.manifests if child.media_type in MANIFEST_TYPES and self._has(child)]
        found = (self.document(child) for child in children)
        return frozenset(manifest.config.digest for manifest in found if isinstance(manifest, Manifest))

    def _tree(self, target: Descriptor, depth: int) -> Held:
        check_nesting("import archive", depth)
        key = (target.media_type, target.digest, depth)
        if key not in self._trees:
            self._trees[key] = self._make(target, depth)
        return self._trees[key]

    def _make(self, target: Descriptor, depth: int) -> Held:
        if not self._has(target):
            return Held(missing=f"{target.media_type[:100]} {target.digest}")
        if target.media_type not in DOCUMENT_TYPES:
            return Held({target.digest: Publication(target.digest, target.size_bytes)})
        document = self.document(target)
        parts = document.manifests if isinstance(document, Index) else (document.config, *document.layers)
        self._references += len(parts)
        if self._references > MAX_REFERENCES:
            raise InvalidArgument(f"import archive: its documents name more than {MAX_REFERENCES} blobs")
        return self._index(document, depth) if isinstance(document, Index) else self._manifest(document)

    def _index(self, index: Index, depth: int) -> Held:
        found: dict[Digest, Publication] = {}
        missing, images = "", 0
        for child in index.manifests:
            tree = self._tree(child, depth + 1)
            _add(found, tree)
            missing = missing or tree.missing
            if child.platform is None or child.platform.os != "unknown":  # unknown: an attestation
                images += tree.images
        found[index.digest] = _publication(index)
        return Held(found, missing, images)

    def _manifest(self, manifest: Manifest) -> Held:
        parts = (manifest.config, *manifest.layers)
        for part in parts:
            if not self._has(part):
                return Held(missing=f"{'config' if part is manifest.config else 'layer'} {part.digest}")
        is_image = manifest.config.media_type in CONFIG_TYPES
        if is_image and all(layer.media_type in LAYER_COMPRESSION for layer in manifest.layers):
            layers_with_diff_ids(manifest, parse_config(stored_document(self._content, manifest.config.digest)))
        found = {part.digest: Publication(part.digest, part.size_bytes) for part in parts}
        found[manifest.digest] = _publication(manifest)
        return Held(found, "", 1)

    def _check_platform(self, manifest: Manifest, wanted: Platform) -> None:
        if manifest.config.media_type not in CONFIG_TYPES or not self._has(manifest.config):
            return
        found = parse_config(stored_document(self._content, manifest.config.digest)).platform
        if found.architecture and not found.runs_on(wanted):
            raise NotFound(
                f"import archive: the image is for {found}, not for {wanted}",
                next_step=f"choose --platform {found}, or an image for {wanted}",
                details={"kind": "platform"},
            )

    def _has(self, blob: Descriptor) -> bool:
        size_bytes = self._sizes.get(blob.digest)
        if size_bytes is not None and size_bytes != blob.size_bytes:
            raise DataLoss(
                f"import archive: {blob.digest} has {size_bytes} bytes, not {blob.size_bytes} as is said of it"
            )
        return size_bytes is not None


def _publication(document: Manifest | Index) -> Publication:
    return Publication(document.digest, len(document.raw), child_labels(document))


def _add(found: dict[Digest, Publication], tree: Held) -> None:
    """Add the blobs of `tree`; a document keeps its labels, even if another document calls it a layer."""
    for digest, publication in tree.publications.items():
        if publication.labels or digest not in found:
            found[digest] = publication
