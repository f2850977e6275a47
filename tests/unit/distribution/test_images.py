"""What is here of an image, whatever strangers wrote into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, InvalidArgument, NotFound
from hythe.oci import default_platform, parse_platform
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.images import Image, ImageContent, choose, read_image, summarise
from hythe_distribution.parsed import Documents
from hythe_distribution.presence import asked, seen
from hythe_distribution.tree import MAX_DOCUMENTS
from scripts.lab.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Blob, encode, index
from tests.unit.distribution.catalogue_bench import (
    OTHER_ARCHITECTURE,
    Bench,
    bench,
    describe,
    image_from,
    image_of,
    noise,
    target_of,
)

HERE = str(default_platform())
OTHER = f"linux/{OTHER_ARCHITECTURE}"


class CountingContent(MemoryContent):
    """Content in memory that counts how often a blob is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        self.reads += 1
        return super().read(digest, offset, length)


def read(on: Bench, root: Blob) -> Image:
    """Return what is here of the image of a root."""
    return read_image(Documents(on.content), asked(on.content), target_of(root))


def test_image_is_described_as_far_as_it_is_here() -> None:
    """A list of images shows what is known from what is here, and says when something is missing."""
    image = image_of([noise(), noise()], labels={"team": "blue"}, created="2026-01-02T03:04:05Z")
    with bench() as on:
        root = on.have(image)
        whole = describe(on.content, root)
        size_bytes = sum(len(blob.data) for blob in image.blobs)
        assert whole == ImageContent(
            HERE, size_bytes, True, "2026-01-02T03:04:05Z", image.config.digest, (HERE,), {"team": "blue"}
        )
        on.lose(image.layers[0])
        assert describe(on.content, root) == replace(whole, complete=False)
        on.lose(image.config)
        assert describe(on.content, root) == ImageContent(size_bytes=size_bytes, id=image.config.digest)
        on.lose(image.manifest)
        assert describe(on.content, root) == ImageContent()


def test_index_is_described_by_what_is_here_of_it() -> None:
    """Of several platforms this host's counts if it is here, else one that is; all that are here are named."""
    mine, other = image_of([noise()]), image_of([noise()], architecture=OTHER_ARCHITECTURE)
    both = index([other, mine])
    with bench() as on:
        on.keep(both.root)
        assert describe(on.content, parse_digest(both.root.digest)) == ImageContent()
        on.have(other)
        seen_first = describe(on.content, parse_digest(both.root.digest))
        assert (seen_first.platform, seen_first.platforms, seen_first.complete) == (OTHER, (OTHER,), True)
        on.have(mine)
        seen_last = describe(on.content, parse_digest(both.root.digest))
        assert (seen_last.platform, seen_last.platforms) == (HERE, (OTHER, HERE))
        assert seen_last.id == mine.config.digest


def test_attestation_in_an_index_is_no_platform() -> None:
    """What BuildKit adds about an image is counted as its content, and never taken for the image."""
    mine, attestation = image_of([noise()]), replace(image_of([noise()]), os="unknown", architecture="unknown")
    both = index([attestation, mine])
    with bench() as on:
        on.have(both)
        found = read(on, both.root)
        assert summarise(found).platforms == (HERE,)
        assert choose(found).descriptor.digest == parse_digest(mine.manifest.digest)
        assert parse_digest(attestation.config.digest) in found.present


def test_nested_index_is_followed() -> None:
    """An image behind an index in an index is found."""
    mine = image_of([noise()])
    inner = index([mine])
    outer = Blob(
        encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.root.descriptor()]}), OCI_INDEX
    )
    with bench() as on:
        on.have(inner)
        on.keep(outer)
        found = read(on, outer)
        assert summarise(found).complete
        assert len(found.present) == 5


def test_endless_nesting_ends() -> None:
    """Indexes in indexes, many times over, cost no more than a look at so many documents, and are said to be too deep."""
    blob = image_of([noise()]).manifest
    with bench() as on:
        for _ in range(6):
            blob = Blob(encode({"schemaVersion": 2, "manifests": [{**blob.descriptor()}] * 3}), OCI_INDEX)
            on.keep(blob)
        found = read(on, blob)
        assert isinstance(found.problem, InvalidArgument)
        assert len(found.present) <= 4
        assert summarise(found) == ImageContent()


def test_wide_nesting_ends() -> None:
    """Two indexes of a thousand manifests each are not looked at to their end."""
    wide = [
        Blob(
            encode(
                {
                    "schemaVersion": 2,
                    "manifests": [
                        {"mediaType": OCI_MANIFEST, "digest": f"sha256:{number + start:064x}", "size": 1}
                        for number in range(1000)
                    ],
                }
            ),
            OCI_INDEX,
        )
        for start in (0, 1000)
    ]
    root = Blob(encode({"schemaVersion": 2, "manifests": [blob.descriptor() for blob in wide]}), OCI_INDEX)
    with bench() as on:
        on.keep(root, *wide)
        found = read(on, root)
        assert isinstance(found.problem, InvalidArgument)
        assert len(found.variants) < MAX_DOCUMENTS


@pytest.mark.parametrize(
    "raw",
    [
        b"not json",
        b"[]",
        encode({"schemaVersion": 1}),
        encode({"schemaVersion": 2, "manifests": [], "layers": []}),
        encode({"schemaVersion": 2, "config": {}, "layers": []}),
        encode({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": "../../etc", "size": 1}]}),
    ],
)
def test_hostile_root_makes_an_incomplete_image(raw: bytes) -> None:
    """A document that cannot be read is as good as missing for a list, and what is wrong with it is known."""
    root = Blob(raw, OCI_MANIFEST)
    with bench() as on:
        on.keep(root)
        found = read(on, root)
        assert summarise(found) == ImageContent()
        assert isinstance(found.variants[0].problem, InvalidArgument)


def test_hostile_config_makes_an_incomplete_image() -> None:
    """A config that cannot be read leaves the sizes known and the image incomplete."""
    image = image_from(Blob(b'{"config": {"Labels": 7}}', OCI_CONFIG), [])
    with bench() as on:
        found = describe(on.content, on.have(image))
        assert found == ImageContent(size_bytes=len(image.config.data), id=image.config.digest)


def test_hostile_words_are_left_out_of_lists() -> None:
    """A megabyte of labels or of a date does not travel with each list."""
    image = image_of([], labels={"a": "x" * (1 << 20)}, created="y" * 1000, architecture="z" * 100, variant="v" * 100)
    with bench() as on:
        found = describe(on.content, on.have(image))
        assert (found.labels, found.created, found.platform, found.complete) == ({}, "", "", True)


def test_index_without_manifests_is_an_image_of_nothing() -> None:
    """An empty index is listed as not here, and choosing from it says why that cannot be."""
    root = Blob(encode({"schemaVersion": 2, "manifests": []}), OCI_INDEX)
    with bench() as on:
        on.keep(root)
        found = read(on, root)
        assert summarise(found) == ImageContent()
        with pytest.raises(NotFound):
            choose(found)


def test_unknown_platform_is_refused_with_what_there_is() -> None:
    """Who asks for a platform that an image lacks is told which it has."""
    both = index([image_of([noise()]), image_of([noise()], architecture=OTHER_ARCHITECTURE)])
    with bench() as on:
        on.have(both)
        with pytest.raises(NotFound) as raised:
            choose(read(on, both.root), parse_platform("linux/s390x"))
        assert raised.value.details == {"kind": "platform"}
        assert HERE in raised.value.message
        assert OTHER in raised.value.message


def test_image_that_names_no_platform_is_taken_for_any() -> None:
    """As long as it is the only such one, an image that doesn't say where it runs is what was asked for."""
    fields = {"rootfs": {"type": "layers", "diff_ids": []}}
    image = image_from(Blob(encode(fields), OCI_CONFIG), [])
    with bench() as on:
        on.have(image)
        found = read(on, image.manifest)
        assert choose(found, parse_platform("linux/s390x")) == choose(found)
        assert summarise(found).complete


def test_document_changed_by_the_disk_is_no_longer_believed() -> None:
    """What a disk turned into other bytes counts as not here, and is known as lost data."""
    image = image_of([noise()])
    with bench() as on:
        on.have(image)
        on.lose(image.config)
        on.content.add(parse_digest(image.config.digest), b"{}")
        found = read(on, image.manifest)
        assert isinstance(found.variants[0].problem, DataLoss)
        assert not summarise(found).complete


def test_remembered_document_is_read_once() -> None:
    """Listing again reads nothing again, yet sees at once what is gone."""
    image = image_of([noise()])
    with bench() as on:
        on.content = counting = CountingContent()
        on.have(image)
        documents = Documents(on.content)

        def look() -> ImageContent:
            return summarise(read_image(documents, seen(on.content), target_of(image.manifest)))

        assert [look().complete for _ in range(3)] == [True] * 3
        on.lose(image.layers[0])
        assert not look().complete
        on.lose(image.manifest)
        assert look() == ImageContent()
        assert counting.reads == 2


def test_hostile_document_is_parsed_once() -> None:
    """What is refused once is refused again without reading it, with the same words."""
    root = Blob(b"not json", OCI_MANIFEST)
    with bench() as on:
        on.content = counting = CountingContent()
        on.keep(root)
        documents = Documents(on.content)
        texts = set()
        for _ in range(3):
            with pytest.raises(InvalidArgument) as raised:
                documents.manifest(parse_digest(root.digest), OCI_MANIFEST)
            texts.add(raised.value.whole)
        assert len(texts) == 1
        assert counting.reads == 1


def test_what_is_remembered_has_a_bound() -> None:
    """However many images there are, the documents in memory stay within the budget; the oldest go."""
    images = [image_of([noise()]) for _ in range(20)]
    with bench() as on:
        on.content = counting = CountingContent()
        on.keep(*(image.manifest for image in images))
        documents = Documents(on.content, budget_bytes=10 * (len(images[0].manifest.data) + 512))
        for image in (*images, images[-1]):
            documents.manifest(parse_digest(image.manifest.digest))
        assert counting.reads == 20
        documents.manifest(parse_digest(images[0].manifest.digest))
        assert counting.reads == 21


def test_document_under_another_type_is_another_document() -> None:
    """A document that is fine as a manifest is not fine where an index is promised, in whatever order it is asked for."""
    image = image_of([])
    with bench() as on:
        on.have(image)
        documents = Documents(on.content)
        assert documents.manifest(parse_digest(image.manifest.digest), OCI_MANIFEST) is not None
        with pytest.raises(InvalidArgument):
            documents.manifest(parse_digest(image.manifest.digest), OCI_INDEX)
