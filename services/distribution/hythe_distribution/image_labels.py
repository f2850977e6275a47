"""The labels that containerd's clients write on blobs: what refers to what, and where each came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument
from hythe.labels import MAX_LABEL_BYTES, UNCOMPRESSED
from hythe.oci import Descriptor, Index, Manifest
from hythe.oci.media_types import CONFIG_TYPES, LAYER_COMPRESSION, MANIFEST_TYPES
from hythe_distribution.hosts import Source
from hythe_distribution.records import Publication
from hythe_distribution.tree import Tree

_REFERENCE = "containerd.io/gc.ref.content"
CONFIG = f"{_REFERENCE}.config"
"""The label of a manifest that names the config of its image."""
_REFERRER = f"{_REFERENCE}.referrer.sha256."
_SOURCE = "containerd.io/distribution.source."
_REFERRER_HEX_DIGITS = 12
_OCI_LAYER_PREFIX = "application/vnd.oci.image.layer."


@dataclass(frozen=True, slots=True)
class Brought:
    """A tree whose blobs are here, and where it came from.

    Attributes:
        diff_ids: digest of the uncompressed bytes of a layer, by the layer's.
        subject: what the tree is about, if it was brought along as a referrer.
    """

    tree: Tree
    sources: tuple[Source, ...]
    diff_ids: Mapping[Digest, Digest] = field(default_factory=dict, hash=False)
    subject: Digest | None = None
    foreign: tuple[Descriptor, ...] = ()

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything of it that is here but its documents."""
        return (*self.tree.blobs, *self.tree.opaque, *self.foreign)

    @property
    def digests(self) -> frozenset[Digest]:
        """All blobs of it that are here, documents too."""
        return frozenset((*(node.descriptor.digest for node in self.tree.nodes), *(blob.digest for blob in self.blobs)))


def publications(brought: Iterable[Brought], known: Callable[[Digest], Mapping[str, str]]) -> tuple[Publication, ...]:
    """Return what makes everything of these trees visible in a namespace, children before parents.

    Args:
        known: labels that a blob has in the namespace; empty for one that it doesn't see.
    """
    trees = tuple(brought)
    here = frozenset().union(*(tree.digests for tree in trees))
    sizes: dict[Digest, int] = {}
    labels: dict[Digest, dict[str, str]] = {}
    for tree in trees:
        for blob in tree.blobs:
            sizes[blob.digest] = blob.size_bytes
            own = labels.setdefault(blob.digest, {})
            if blob.digest in tree.diff_ids:
                own[UNCOMPRESSED] = str(tree.diff_ids[blob.digest])
        for node in tree.tree.nodes:
            sizes[node.descriptor.digest] = len(node.document.raw)
            labels.setdefault(node.descriptor.digest, {}).update(child_labels(node.document, here))
        if tree.subject is not None:
            labels.setdefault(tree.subject, {}).update(referrer_label(tree.tree.root.digest))
    for digest, own in labels.items():
        before = known(digest)
        for source in dict.fromkeys(source for tree in trees if digest in tree.digests for source in tree.sources):
            own.update(source_label(source, {**before, **own}))
    return tuple(Publication(digest, sizes[digest], own) for digest, own in labels.items() if digest in sizes)


def child_labels(document: Manifest | Index, here: frozenset[Digest] | None = None) -> dict[str, str]:
    """Return the labels by which a document keeps those of its children that are `here`, or all.

    The number in a label is the child's place among all of its kind, so that platforms pulled one after the other don't
    take each other's place.

    Spec: containerd, "Garbage Collection", garbage collection labels.
    """
    children = document.manifests if isinstance(document, Index) else (document.config, *document.layers)
    counts: dict[str, int] = {}
    labels: dict[str, str] = {}
    for child in children:
        kind = _kind(child.media_type)
        number = counts[kind] = counts.get(kind, -1) + 1
        key = CONFIG if kind == "config" and number == 0 else f"{_REFERENCE}.{kind}{number}"
        if here is None or child.digest in here:
            labels[key] = str(child.digest)
    return labels


def _kind(media_type: str) -> str:
    if media_type in CONFIG_TYPES:
        return "config"
    if media_type in MANIFEST_TYPES:
        return "m."
    return "l." if media_type in LAYER_COMPRESSION or media_type.startswith(_OCI_LAYER_PREFIX) else ""


def source_label(source: Source, before: Mapping[str, str]) -> dict[str, str]:
    """Return the label that says that a blob is in a repository, merged with what it says of others at the same registry.

    Empty where nothing would change, or where the list would be longer than a label may be: it is only a hint.
    """
    key = f"{_SOURCE}{source.host}"
    repositories = repositories_in(before, source.host)
    if source.repository in repositories:
        return {}
    value = ",".join(sorted((*repositories, source.repository)))
    return {} if len(key.encode()) + len(value.encode()) > MAX_LABEL_BYTES else {key: value}


def repositories_in(labels: Mapping[str, str], host: str) -> tuple[str, ...]:
    """Return the repositories of the registry `host` that a blob's labels name."""
    return tuple(filter(None, labels.get(f"{_SOURCE}{host}", "").split(",")))


def sources_in(labels: Mapping[str, str]) -> tuple[Source, ...]:
    """Return all repositories that a blob's labels name, by registry."""
    hosts = (key.removeprefix(_SOURCE) for key in sorted(labels) if key.startswith(_SOURCE))
    return tuple(Source(host, repository) for host in hosts for repository in repositories_in(labels, host))


def referrer_label(referrer: Digest) -> dict[str, str]:
    """Return the label by which a manifest keeps one that is about it."""
    return {f"{_REFERRER}{referrer.hex[:_REFERRER_HEX_DIGITS]}": str(referrer)}


def referrers_in(labels: Mapping[str, str]) -> tuple[Digest, ...]:
    """Return the manifests that a manifest's labels say are about it; what is no digest is passed over."""
    found = []
    for key, value in sorted(labels.items()):
        if key.startswith(_REFERRER):
            try:
                found.append(parse_digest(value))
            except InvalidArgument:
                continue  # anybody may set labels
    return tuple(found)
