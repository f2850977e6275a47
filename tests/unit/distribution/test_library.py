"""Publishing in a library, and bytes that are held while somebody is about to do it."""

from __future__ import annotations

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import InvalidArgument, NotFound
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import Publication

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)
BLOB = Publication(DIGEST, len(DATA), {"a": "1"})


@pytest.fixture
def content() -> MemoryContent:
    """A store with one blob that no namespace sees, as a download leaves it."""
    content = MemoryContent()
    with content.open_ingest("layer-x") as ingest:
        ingest.write(DATA)
        ingest.commit()
    return content


@pytest.fixture
def library(content: MemoryContent) -> Library:
    """A library over it."""
    return Library(content, MemoryRecords())


def kept(content: MemoryContent) -> list[Digest]:
    """Return the digests whose bytes are there."""
    return [info.digest for info in content.walk()]


def test_published_blob_is_seen_and_publishing_again_is_fine(library: Library) -> None:
    """What a download brought shows up in the namespace that it was for, under the labels of all publications."""
    library.publish("default", [BLOB])
    library.publish("default", [Publication(DIGEST, len(DATA), {"b": "2"})])
    assert dict(library.of("default").info(DIGEST).labels) == {"a": "1", "b": "2"}


def test_blob_without_bytes_is_not_published(library: Library) -> None:
    """A namespace never sees a blob that nobody can read, nor any that would be published with it."""
    with pytest.raises(NotFound):
        library.publish("default", [BLOB, Publication(digest_of(b"missing"), 7)])
    assert list(library.of("default").walk()) == []


def test_publication_with_a_wrong_label_or_namespace_does_nothing(library: Library) -> None:
    """A mistake is told before anything is published."""
    for namespace, blobs in (("default", [BLOB, Publication(DIGEST, 1, {"k" * 5000: "v"})]), ("a/b", [BLOB])):
        with pytest.raises(InvalidArgument):
            library.publish(namespace, blobs)
    assert list(library.of("default").walk()) == []
    with pytest.raises(InvalidArgument):
        library.of("a/b")


def test_downloads_of_the_service_are_in_no_namespace(library: Library, content: MemoryContent) -> None:
    """What the service itself fetches is nobody's ingest, whatever it is called."""
    default = library.of("default")
    with content.open_ingest(f"layer-{DIGEST}") as ingest, default.open_ingest(f"layer-{DIGEST}") as own:
        ingest.write(DATA)
        own.write(b"own")
        assert [(status.reference, status.offset) for status in default.ingests()] == [(f"layer-{DIGEST}", 3)]
    default.abort(f"layer-{DIGEST}")
    assert content.status(f"layer-{DIGEST}").offset == len(DATA)


def test_held_bytes_outlive_their_last_namespace(library: Library, content: MemoryContent) -> None:
    """Who holds a blob can still publish it when the last namespace that saw it has deleted it."""
    library.publish("one", [BLOB])
    with library.hold([DIGEST]):
        library.of("one").delete(DIGEST)
        library.publish("two", [BLOB])
    assert b"".join(library.of("two").read(DIGEST)) == DATA
    library.of("two").delete(DIGEST)
    assert kept(content) == []


def test_held_bytes_that_nobody_published_go_with_the_last_hold(library: Library, content: MemoryContent) -> None:
    """Bytes that were deleted meanwhile go when the last of several holders lets go of them."""
    library.publish("one", [BLOB])
    with library.hold([DIGEST]):
        with library.hold([DIGEST, DIGEST]):
            library.of("one").delete(DIGEST)
        assert kept(content) == [DIGEST]
    assert kept(content) == []


def test_bytes_that_nobody_deleted_stay_when_they_are_let_go(library: Library, content: MemoryContent) -> None:
    """A hold by itself removes nothing: what a download left is there for the next."""
    with library.hold([DIGEST]):
        pass
    assert kept(content) == [DIGEST]


def test_all_bytes_stay_for_who_does_not_know_yet_which_to_publish(library: Library, content: MemoryContent) -> None:
    """An archive that comes in can rely on every blob that was here when it began."""
    library.publish("one", [BLOB])
    with library.hold([None]):
        library.of("one").delete(DIGEST)
        assert kept(content) == [DIGEST]
        library.publish("two", [BLOB])
    assert b"".join(library.of("two").read(DIGEST)) == DATA
