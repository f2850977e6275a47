"""An image as a tree of documents and blobs: a pure walk that gives children before parents and says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, Index, Manifest, Platform, select
from hythe.oci.media_types import DOCUMENT_TYPES, is_foreign

MAX_NESTED_INDEXES = 3
MAX_DOCUMENTS = 1000
MAX_TREE_BYTES = 64 << 20
"""Most bytes of documents that one image may have: all of them are held in memory at once."""

Read = Callable[[Descriptor], Manifest | Index | None]
"""Gives the document that a descriptor points to, or None where it isn't here."""
Choose = Callable[[Index], Sequence[Descriptor]]
"""Which entries of an index belong to the tree."""
Has = Callable[[Descriptor], bool]


@dataclass(frozen=True, slots=True)
class Node:
    """A document, and the descriptor by which it was reached first."""

    descriptor: Descriptor
    document: Manifest | Index


@dataclass(frozen=True, slots=True)
class Tree:
    """What an image consists of; everything stands in it once.

    Attributes:
        nodes: documents, children before parents, the root last.
        blobs: configs and layers, lowest layer first.
        opaque: entries of indexes that are neither manifests nor indexes; nothing is known of what they consist of.
        foreign: layers that are to be had at URLs of their own and not at the registry.
        missing: what of all these but `foreign` is not here.
    """

    nodes: tuple[Node, ...]
    blobs: tuple[Descriptor, ...]
    opaque: tuple[Descriptor, ...]
    foreign: tuple[Descriptor, ...]
    missing: tuple[Descriptor, ...]

    @property
    def root(self) -> Manifest | Index:
        """The document at the top; a tree whose root is missing has none."""
        return self.nodes[-1].document

    @property
    def manifests(self) -> tuple[Node, ...]:
        """The documents that are manifests."""
        return tuple(node for node in self.nodes if isinstance(node.document, Manifest))


def everything(index: Index) -> Sequence[Descriptor]:
    """Choose all entries."""
    return index.manifests


def for_platform(wanted: Platform) -> Choose:
    """Return a choice of the one entry that runs best on `wanted`; it raises NotFound as `hythe.oci.select` does."""
    return lambda index: (select(index, wanted),)


def is_document(descriptor: Descriptor) -> bool:
    """Tell whether a descriptor points to a manifest or index that can be read."""
    return descriptor.media_type in DOCUMENT_TYPES


def lies_elsewhere(layer: Descriptor) -> bool:
    """Tell whether a layer is to be had at URLs of its own: only of the types made for that is this believed."""
    return is_foreign(layer.media_type) and bool(layer.urls)


def grow(root: Descriptor, read: Read, choose: Choose, has: Has = lambda _: True) -> Tree:
    """Return the tree below `root`.

    Args:
        read: called once for each document.
        has: tells of a blob whether it is here.

    Raises:
        InvalidArgument: indexes are nested more than 3 deep, there are more than 1000 documents or 64 MiB of them, or one
            digest is said to have two sizes.
    """
    walk = _Walk(read, choose)
    walk.visit(root, 0)
    blobs, opaque = tuple(walk.blobs.values()), tuple(walk.opaque.values())
    missing = (*walk.missing.values(), *(blob for blob in (*blobs, *opaque) if not has(blob)))
    return Tree(tuple(walk.nodes.values()), blobs, opaque, tuple(walk.foreign.values()), missing)


def check_nesting(step: str, depth: int) -> None:
    """Return unless `depth` indexes lie in each other and that is too many; `step` is what is being done.

    Raises:
        InvalidArgument: it is.
    """
    if depth > MAX_NESTED_INDEXES:
        raise InvalidArgument(f"{step}: indexes are nested more than {MAX_NESTED_INDEXES} deep")


def check_total(what: str, documents: int, document_bytes: int) -> None:
    """Return if an image of that many documents, and bytes of them, is one that is dealt with.

    Raises:
        InvalidArgument: there are more than 1000, or more than 64 MiB.
    """
    if documents > MAX_DOCUMENTS:
        raise InvalidArgument(f"read {what}: the image has more than {MAX_DOCUMENTS} manifests")
    if document_bytes > MAX_TREE_BYTES:
        raise InvalidArgument(f"read {what}: the image's manifests have more than {MAX_TREE_BYTES} bytes")


def describe_missing(missing: Iterable[Descriptor], most: int = 3) -> str:
    """Return the first few of what is missing as text: a platform where one is known, else the digest."""
    texts = [f"{found.digest}" + (f" ({found.platform})" if found.platform else "") for found in missing]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


class _Walk:
    def __init__(self, read: Read, choose: Choose) -> None:
        self.nodes: dict[Digest, Node] = {}
        self.blobs: dict[Digest, Descriptor] = {}
        self.opaque: dict[Digest, Descriptor] = {}
        self.foreign: dict[Digest, Descriptor] = {}
        self.missing: dict[Digest, Descriptor] = {}
        self._read = read
        self._choose = choose
        self._sizes: dict[Digest, int] = {}
        self._documents = 0
        self._document_bytes = 0

    def visit(self, descriptor: Descriptor, depth: int) -> None:
        self._check_size(descriptor)
        if descriptor.digest in self.nodes or descriptor.digest in self.missing:
            return
        self._documents += 1
        self._document_bytes += descriptor.size_bytes
        check_total(str(descriptor.digest), self._documents, self._document_bytes)
        document = self._read(descriptor)
        if document is None:
            self.missing[descriptor.digest] = descriptor
        elif isinstance(document, Index):
            check_nesting(f"read {descriptor.digest}", depth + 1)
            for entry in self._choose(document):
                if is_document(entry):
                    self.visit(entry, depth + 1)
                else:
                    self._take(entry, self.opaque)
        else:
            self._take(document.config, self.blobs)
            for layer in document.layers:
                self._take(layer, self.foreign if lies_elsewhere(layer) else self.blobs)
        if document is not None:
            self.nodes[descriptor.digest] = Node(descriptor, document)

    def _take(self, descriptor: Descriptor, into: dict[Digest, Descriptor]) -> None:
        self._check_size(descriptor)
        into.setdefault(descriptor.digest, descriptor)

    def _check_size(self, descriptor: Descriptor) -> None:
        known = self._sizes.setdefault(descriptor.digest, descriptor.size_bytes)
        if known != descriptor.size_bytes:
            raise InvalidArgument(
                f"read {descriptor.digest}: the image says that it has {known} bytes, and {descriptor.size_bytes}"
            )
