"""The walk of an image's documents, and the labels that say what refers to what."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hythe.digest import Digest, digest_of, parse_digest
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import Descriptor, Index, Manifest, default_platform, parse_document, parse_platform
from hythe_distribution.hosts import Source
from hythe_distribution.image_labels import Brought, child_labels, publications, referrers_in, source_label
from hythe_distribution.tree import describe_missing, everything, for_platform, grow
from scripts.lab.images import OCI_INDEX, Blob, Image, encode, index
from scripts.lab.images import Index as LabIndex
from tests.unit.distribution.transfers import OTHER_ARCHITECTURE, an_image, artifact, digest, index_of

SOURCE = Source("registry.example", "app")


class Shelf:
    """Documents by digest, as `grow` reads them."""

    def __init__(self, *images: Image | LabIndex) -> None:
        self.documents: dict[Digest, Manifest | Index] = {}
        for image in images:
            for blob in image.manifests:
                self.documents[digest(blob)] = parse_document(blob.data)

    def read(self, descriptor: Descriptor) -> Manifest | Index | None:
        """Return a document, or None."""
        return self.documents.get(descriptor.digest)


def descriptor_of(blob: Blob) -> Descriptor:
    """Return the descriptor of a blob."""
    return Descriptor(blob.media_type, digest(blob), len(blob.data))


def index_blob(*entries: Mapping[str, object]) -> Blob:
    """Return an index of entries."""
    return Blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}), OCI_INDEX)


def test_children_come_before_parents_and_each_once() -> None:
    """A document that stands at two depths still comes before all that point to it."""
    image = an_image("mine")
    inner = index_blob(image.manifest.descriptor())
    outer = LabIndex(index_blob(image.manifest.descriptor(), inner.descriptor(), image.manifest.descriptor()), (image,))
    shelf = Shelf(outer, LabIndex(inner, (image,)))
    tree = grow(descriptor_of(outer.root), shelf.read, everything)
    assert [node.descriptor.digest for node in tree.nodes] == [
        digest(image.manifest),
        digest(inner),
        digest(outer.root),
    ]
    assert [blob.digest for blob in tree.blobs] == [digest(blob) for blob in image.blobs]
    assert tree.missing == ()


def test_what_is_not_here_is_listed() -> None:
    """Documents and blobs that are missing are told, documents with their platform."""
    mine, other = an_image("mine"), an_image("other", OTHER_ARCHITECTURE)
    both = index([mine, other])
    shelf = Shelf(both)
    del shelf.documents[digest(other.manifest)]
    absent = digest(mine.layers[1])
    tree = grow(descriptor_of(both.root), shelf.read, everything, lambda blob: blob.digest != absent)
    assert {found.digest for found in tree.missing} == {digest(other.manifest), absent}
    assert f"linux/{OTHER_ARCHITECTURE}" in describe_missing(tree.missing)
    assert describe_missing(tree.missing * 3).endswith("and 3 more")
    assert grow(descriptor_of(other.manifest), shelf.read, everything).nodes == ()


def test_one_platform_takes_its_branch_alone() -> None:
    """A platform gives one manifest; one that isn't offered is NotFound with those that are."""
    mine, other = an_image("mine"), an_image("other", OTHER_ARCHITECTURE)
    both = index_of([mine, other, artifact("attestation")])
    tree = grow(descriptor_of(both.root), Shelf(both).read, for_platform(default_platform()))
    assert [node.descriptor.digest for node in tree.manifests] == [digest(mine.manifest)]
    with pytest.raises(NotFound) as raised:
        grow(descriptor_of(both.root), Shelf(both).read, for_platform(parse_platform("plan9/amd64")))
    assert OTHER_ARCHITECTURE in raised.value.message


def test_digest_with_two_sizes_is_refused() -> None:
    """An image whose documents disagree about a blob is not believed."""
    image = an_image("mine")
    entry = image.manifest.descriptor()
    root = index_blob(entry, {**entry, "size": entry["size"] + 1})
    with pytest.raises(InvalidArgument) as raised:
        grow(descriptor_of(root), Shelf(image, LabIndex(root, ())).read, everything)
    assert image.manifest.digest in raised.value.message


def test_deep_and_wide_images_are_refused() -> None:
    """An image can neither nest indexes without end nor have more documents than memory is there for."""
    image = an_image("mine")
    blobs, chain = [image.manifest], image.manifest
    for _ in range(4):
        chain = index_blob(chain.descriptor())
        blobs.append(chain)
    shelf = Shelf(*(LabIndex(blob, ()) for blob in blobs))
    with pytest.raises(InvalidArgument) as raised:
        grow(descriptor_of(chain), shelf.read, everything)
    assert "nested" in raised.value.message
    wide = index_blob(*({**image.manifest.descriptor(), "digest": f"sha256:{i:064x}"} for i in range(1000)))
    with pytest.raises(InvalidArgument) as raised:
        grow(descriptor_of(wide), Shelf(LabIndex(wide, ())).read, everything)
    assert "more than 1000 manifests" in raised.value.message
    heavy = index_blob(
        *({**image.manifest.descriptor(), "digest": f"sha256:{i:064x}", "size": 1 << 40} for i in range(2))
    )
    with pytest.raises(InvalidArgument) as raised:
        grow(descriptor_of(heavy), Shelf(LabIndex(heavy, ())).read, everything)
    assert "bytes" in raised.value.message


def test_children_are_numbered_within_their_kind() -> None:
    """Configs, layers, manifests and the rest are kept under the keys that containerd's clients write."""
    signature = artifact("signature", an_image("mine").manifest).manifest
    document = parse_document(signature.data)
    assert isinstance(document, Manifest)
    here = frozenset({document.config.digest, document.layers[0].digest})
    assert child_labels(document, here) == {
        "containerd.io/gc.ref.content.0": str(document.config.digest),
        "containerd.io/gc.ref.content.1": str(document.layers[0].digest),
    }
    nested = index_blob(an_image("mine").root.descriptor(), index([an_image("mine")]).root.descriptor())
    parsed = parse_document(nested.data)
    assert isinstance(parsed, Index)
    everywhere = frozenset(entry.digest for entry in parsed.manifests)
    assert set(child_labels(parsed, everywhere)) == {
        "containerd.io/gc.ref.content.m.0",
        "containerd.io/gc.ref.content.0",
    }


def test_only_what_is_here_is_kept() -> None:
    """A label never points to a platform that was not brought, and numbers don't depend on what was."""
    both = index([an_image("other", OTHER_ARCHITECTURE), an_image("mine")])
    document = parse_document(both.root.data)
    mine = digest(both.images[1].manifest)
    assert child_labels(document, frozenset({mine})) == {"containerd.io/gc.ref.content.m.1": str(mine)}


def test_source_label_is_merged_sorted_and_bounded() -> None:
    """Repositories of a registry are joined by commas; a list too long for a label stays as it is."""
    key = "containerd.io/distribution.source.registry.example"
    assert source_label(SOURCE, {}) == {key: "app"}
    assert source_label(SOURCE, {key: "zoo"}) == {key: "app,zoo"}
    assert source_label(SOURCE, {key: "app,zoo"}) == {}
    assert source_label(SOURCE, {key: "x" * 4090}) == {}


def test_labels_that_others_wrote_are_not_trusted() -> None:
    """A referrer label whose value is no digest is passed over."""
    found = digest_of(b"x")
    labels = {
        "containerd.io/gc.ref.content.referrer.sha256.1": str(found),
        "containerd.io/gc.ref.content.referrer.sha256.2": "../../etc",
        "containerd.io/gc.ref.content.l.0": str(digest_of(b"y")),
    }
    assert referrers_in(labels) == (found,)


def test_every_blob_is_published_once_children_first() -> None:
    """What is published names each blob once with its size, and parents after what they keep."""
    image = an_image("mine")
    signature = artifact("signature", image.manifest)
    shelf = Shelf(image, signature)
    trees = [
        Brought(grow(descriptor_of(image.manifest), shelf.read, everything), (SOURCE,)),
        Brought(
            grow(descriptor_of(signature.manifest), shelf.read, everything), (SOURCE,), subject=digest(image.manifest)
        ),
    ]
    found = publications(trees, lambda _: {})
    places = {blob.digest: place for place, blob in enumerate(found)}
    assert len(places) == len(found) == len((*image.blobs, *signature.blobs)) + 2
    assert all(places[digest(blob)] < places[digest(image.manifest)] for blob in image.blobs)
    assert {blob.size_bytes for blob in found if blob.digest == digest(image.manifest)} == {len(image.manifest.data)}
    subject = found[places[digest(image.manifest)]]
    assert str(digest(signature.manifest)) in subject.labels.values()
    assert parse_digest(signature.manifest.digest) in places
