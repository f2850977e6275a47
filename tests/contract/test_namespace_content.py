"""What every body of the namespaces' content promises; a new body joins by one more entry in `BODIES`.

The classes of errors are containerd's: its content service documents them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unavailable,
)
from hythe.labels import MAX_LABEL_BYTES
from hythe.ports.content import MAX_CHUNK_BYTES
from hythe.ports.namespace_content import LabelledBlob, NamespaceContent
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.records_s3 import S3Records
from hythe_distribution.adapters.records_sqlite import SqliteRecords
from hythe_distribution.adapters.s3_store import S3Content
from hythe_distribution.namespace_store import Library
from tests.fixtures.content_service import ContentService

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)
OTHER = digest_of(b"something else")


@dataclass(frozen=True)
class Body:
    """One body under test: the content store of each namespace, and what ends it."""

    of: Callable[[str], NamespaceContent]
    close: Callable[[], None] = lambda: None


def directory_body(request: pytest.FixtureRequest) -> Body:
    """Blobs in a directory, records in SQLite."""
    path = request.getfixturevalue("tmp_path") / "content"
    content = DirectoryContent(path)
    records = SqliteRecords(path / "records.db")
    return Body(Library(content, records).of, records.close)


def s3_body(request: pytest.FixtureRequest) -> Body:
    """Blobs and records in a bucket."""
    bucket = request.getfixturevalue("bucket").open()
    content = S3Content(bucket, request.getfixturevalue("tmp_path") / "staging")
    records = S3Records(bucket, request.getfixturevalue("tmp_path") / "ledger.db")
    return Body(Library(content, records).of, records.close)


def memory_body(request: pytest.FixtureRequest) -> Body:
    """All in memory."""
    return Body(Library(MemoryContent(), MemoryRecords()).of)


def proxy_body(request: pytest.FixtureRequest) -> Body:
    """A distribution process behind the bus; its namespaces are emptied at the end, for it serves the whole session."""
    service: ContentService = request.getfixturevalue("content_service")
    token = secrets.token_hex(4)
    used: set[str] = set()

    def of(namespace: str) -> NamespaceContent:
        used.add(f"{namespace}.{token}")
        return service.content(f"{namespace}.{token}")

    def close() -> None:
        for namespace in used:
            content = service.content(namespace)
            for blob in list(content.walk()):
                content.delete(blob.digest)
            for ingest in list(content.ingests()):
                content.abort(ingest.reference)

    return Body(of, close)


BODIES: dict[str, Callable[[pytest.FixtureRequest], Body]] = {
    "directory": directory_body,
    "s3": s3_body,
    "memory": memory_body,
    "proxy": proxy_body,
}


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Iterator[Body]:
    """A fresh, empty store of each body."""
    body: Body = BODIES[request.param](request)
    yield body
    body.close()


@pytest.fixture
def content(body: Body) -> NamespaceContent:
    """The store of a namespace that is alone."""
    return body.of("default")


def put(content: NamespaceContent, data: bytes, reference: str = "put", **labels: str) -> LabelledBlob:
    """Store `data` under `labels`."""
    with content.open_ingest(reference) as ingest:
        ingest.write(data)
        return ingest.commit(digest_of(data), len(data), labels)


def read(content: NamespaceContent, digest: Digest) -> bytes:
    """Read a blob as one."""
    return b"".join(content.read(digest))


def walked(content: NamespaceContent, *filters: str) -> list[Digest]:
    """Return the digests that a walk gives."""
    return [blob.digest for blob in content.walk(filters)]


def test_committed_blob_is_seen_with_its_labels(content: NamespaceContent) -> None:
    """What was committed can be read, and bears the labels of its commit."""
    blob = put(content, DATA, key="value")
    assert (blob.digest, blob.size_bytes, dict(blob.labels)) == (DIGEST, len(DATA), {"key": "value"})
    assert content.info(DIGEST) == blob
    assert read(content, DIGEST) == DATA
    assert 0 < blob.created_ns <= blob.updated_ns


def test_blob_whose_digest_nobody_promised_gets_its_own(content: NamespaceContent) -> None:
    """Who doesn't know the digest before learns it by the commit."""
    with content.open_ingest("unknown") as ingest:
        ingest.write(DATA)
        blob = ingest.commit()
    assert (blob.digest, blob.size_bytes) == (DIGEST, len(DATA))
    assert read(content, DIGEST) == DATA


def test_blob_is_not_seen_by_another_namespace(body: Body) -> None:
    """What one namespace brought, another can neither see nor read, list, label or delete."""
    mine, others = body.of("mine"), body.of("others")
    put(mine, DATA)
    for ask in (others.info, others.read, others.delete, lambda digest: others.label(digest, {"a": "b"})):
        with pytest.raises(NotFound) as raised:
            ask(DIGEST)
        assert raised.value.details == {"kind": "blob"}
    assert walked(others) == []
    assert walked(mine) == [DIGEST]


def test_blob_brought_by_two_namespaces_is_seen_by_both(body: Body) -> None:
    """Each namespace has labels of its own on bytes that are kept once."""
    put(body.of("one"), DATA, a="1")
    put(body.of("two"), DATA, b="2")
    assert dict(body.of("one").info(DIGEST).labels) == {"a": "1"}
    assert dict(body.of("two").info(DIGEST).labels) == {"b": "2"}


def test_blob_deleted_from_one_namespace_stays_in_the_other(body: Body) -> None:
    """Deleting takes a blob out of one namespace; its bytes stay as long as another sees them, and go with the last."""
    one, two, three = (body.of(name) for name in ("one", "two", "three"))
    put(one, DATA)
    put(two, DATA)
    one.delete(DIGEST)
    assert read(two, DIGEST) == DATA
    with pytest.raises(NotFound):
        one.info(DIGEST)
    two.delete(DIGEST)
    with three.open_ingest("again", total_bytes=len(DATA), expected=DIGEST) as ingest:
        assert ingest.offset == 0, "the bytes were still there"


def test_blob_of_another_namespace_needs_no_bytes(body: Body) -> None:
    """Who expects a blob that another namespace has is told that all its bytes are here, and commits at once."""
    put(body.of("one"), DATA, a="1")
    two = body.of("two")
    with two.open_ingest("shared", total_bytes=len(DATA), expected=DIGEST) as ingest:
        assert ingest.offset == len(DATA)
        status = two.status("shared")
        assert (status.reference, status.offset, status.total_bytes) == ("shared", len(DATA), len(DATA))
        assert [status.reference for status in two.ingests()] == ["shared"]
        with pytest.raises(NotFound):
            two.info(DIGEST)
        blob = ingest.commit(DIGEST, len(DATA), {"b": "2"})
    assert dict(blob.labels) == {"b": "2"}
    assert read(two, DIGEST) == DATA
    assert list(two.ingests()) == []


def test_expected_blob_of_another_size_is_brought_anew(body: Body) -> None:
    """A size that isn't that of the blob is no match: the bytes must come, and are refused at the commit."""
    put(body.of("one"), DATA)
    with body.of("two").open_ingest("liar", total_bytes=len(DATA) + 1, expected=DIGEST) as ingest:
        assert ingest.offset == 0


@pytest.mark.parametrize(("digest", "size_bytes"), [(OTHER, None), (None, 1), (DIGEST, 1)])
def test_shared_blob_committed_as_another_is_refused(body: Body, digest: Digest | None, size_bytes: int | None) -> None:
    """The promise at the commit is checked for bytes of another namespace as for one's own."""
    put(body.of("one"), DATA)
    two = body.of("two")
    with two.open_ingest("shared", expected=DIGEST) as ingest, pytest.raises(FailedPrecondition):
        ingest.commit(digest, size_bytes)
    assert walked(two) == []
    assert list(two.ingests()) == []


def test_bytes_written_behind_a_shared_blob_are_too_many(body: Body) -> None:
    """All bytes are here, so one more is DataLoss, and nothing is left."""
    put(body.of("one"), DATA)
    with body.of("two").open_ingest("shared", expected=DIGEST) as ingest, pytest.raises(DataLoss):
        ingest.write(b"x")
    assert list(body.of("two").ingests()) == []


def test_shared_blob_deleted_meanwhile_is_committed_all_the_same(body: Body) -> None:
    """Who was told that all bytes are here can rely on it, whatever the other namespace does."""
    one, two = body.of("one"), body.of("two")
    put(one, DATA)
    with two.open_ingest("shared", expected=DIGEST) as ingest:
        one.delete(DIGEST)
        ingest.commit(DIGEST)
    assert read(two, DIGEST) == DATA


def test_shared_blob_deleted_meanwhile_and_not_committed_goes(body: Body) -> None:
    """Bytes that were kept for a writer go when the writer goes without them."""
    one, two = body.of("one"), body.of("two")
    put(one, DATA)
    ingest = two.open_ingest("shared", expected=DIGEST)
    one.delete(DIGEST)
    ingest.close()
    with two.open_ingest("again", expected=DIGEST) as again:
        assert again.offset == 0


def test_ingest_of_a_blob_that_is_seen_is_refused_at_once(content: NamespaceContent) -> None:
    """Who expects what the namespace has already need not begin."""
    put(content, DATA)
    with pytest.raises(AlreadyExists) as raised:
        content.open_ingest("again", expected=DIGEST)
    assert raised.value.details == {"digest": str(DIGEST)}
    assert list(content.ingests()) == []


def test_commit_of_a_blob_that_is_seen_already_exists(content: NamespaceContent) -> None:
    """Bringing a blob twice is told, changes nothing, and leaves no ingest."""
    put(content, DATA, "first", a="1")
    with pytest.raises(AlreadyExists) as raised:
        put(content, DATA, "second", a="2")
    assert raised.value.details == {"digest": str(DIGEST)}
    assert dict(content.info(DIGEST).labels) == {"a": "1"}
    assert read(content, DIGEST) == DATA
    assert list(content.ingests()) == []


@pytest.mark.parametrize(
    ("digest", "size_bytes"), [(OTHER, len(DATA)), (DIGEST, len(DATA) + 1), (None, 0), (OTHER, None)]
)
def test_commit_of_other_bytes_than_promised_is_refused(
    content: NamespaceContent, digest: Digest | None, size_bytes: int | None
) -> None:
    """A lie about digest or size is FailedPrecondition, as in containerd; neither blob nor ingest remain."""
    with content.open_ingest("lie") as ingest:
        ingest.write(DATA)
        with pytest.raises(FailedPrecondition):
            ingest.commit(digest, size_bytes)
    assert walked(content) == []
    assert list(content.ingests()) == []


def test_more_bytes_than_promised_are_refused_at_once(content: NamespaceContent) -> None:
    """A source that never ends cannot fill the store."""
    with content.open_ingest("endless", total_bytes=10) as ingest:
        ingest.write(b"0123456789")
        with pytest.raises(DataLoss):
            ingest.write(b"x")
    assert list(content.ingests()) == []


def test_second_writer_of_an_ingest_is_refused(content: NamespaceContent) -> None:
    """Two writers never mix their bytes; when one lets go, the other may come."""
    with content.open_ingest("one"):
        with pytest.raises(Unavailable):
            content.open_ingest("one")
        with pytest.raises(Unavailable):
            content.abort("one")
        content.open_ingest("two").close()
    content.open_ingest("one").close()


def test_second_writer_of_a_shared_blob_is_refused(body: Body) -> None:
    """That holds for an ingest of bytes that are here, too, whoever comes second."""
    put(body.of("one"), DATA)
    two = body.of("two")
    with two.open_ingest("ref", expected=DIGEST):
        for expected in (DIGEST, None):
            with pytest.raises(Unavailable):
                two.open_ingest("ref", expected=expected)
        with pytest.raises(Unavailable):
            two.abort("ref")
    with two.open_ingest("ref"), pytest.raises(Unavailable):
        two.open_ingest("ref", expected=DIGEST)


def test_equal_references_of_two_namespaces_do_not_meet(body: Body) -> None:
    """A reference belongs to its namespace: others write, list and abort under the same name without seeing it."""
    one, two = body.of("one"), body.of("two")
    with one.open_ingest("ref") as first, two.open_ingest("ref") as second:
        first.write(b"first")
        second.write(b"second!")
        assert [(status.reference, status.offset) for status in one.ingests()] == [("ref", 5)]
        assert [(status.reference, status.offset) for status in two.ingests()] == [("ref", 7)]
    two.abort("ref")
    assert one.status("ref").offset == 5


def test_closed_ingest_is_kept_and_taken_up_again(content: NamespaceContent) -> None:
    """What an interrupted transfer brought counts when it goes on."""
    with content.open_ingest("later", total_bytes=len(DATA), expected=DIGEST) as ingest:
        ingest.write(DATA[:7])
    assert content.status("later").offset == 7
    with content.open_ingest("later", total_bytes=len(DATA), expected=DIGEST, resume=True) as ingest:
        assert ingest.offset == 7
        ingest.write(memoryview(DATA)[7:])
        ingest.commit(DIGEST, len(DATA))
    assert read(content, DIGEST) == DATA


def test_leftover_longer_than_the_total_is_removed(content: NamespaceContent) -> None:
    """What can never become the promised blob is not kept."""
    with content.open_ingest("long") as ingest:
        ingest.write(DATA)
    with pytest.raises(DataLoss):
        content.open_ingest("long", total_bytes=3, resume=True)
    assert list(content.ingests()) == []


def test_aborted_ingest_is_gone(content: NamespaceContent) -> None:
    """An abort takes all bytes away, whether a writer or somebody else does it."""
    with content.open_ingest("mine") as ingest:
        ingest.write(DATA)
        ingest.abort()
        ingest.abort()
    with content.open_ingest("left") as ingest:
        ingest.write(DATA)
    content.abort("left")
    assert list(content.ingests()) == []
    for ask in (content.abort, content.status):
        with pytest.raises(NotFound) as raised:
            ask("left")
        assert raised.value.details == {"kind": "ingest"}


def test_ingests_are_listed_in_order(content: NamespaceContent) -> None:
    """All that is under way can be seen by name, held or left, however it is called."""
    for reference in ("b\r\n", "ns/other/a", "é/../:*"):
        with content.open_ingest(reference, total_bytes=100) as ingest:
            ingest.write(DATA)
    with content.open_ingest("a") as ingest:
        ingest.write(b"123")
        found = [(status.reference, status.offset, status.total_bytes) for status in content.ingests()]
    size = len(DATA)
    assert found == [("a", 3, None), ("b\r\n", size, 100), ("ns/other/a", size, 100), ("é/../:*", size, 100)]


@pytest.mark.parametrize("reference", ["", "x" * 1025, "\ud800"])
def test_reference_that_cannot_be_is_invalid(content: NamespaceContent, reference: str) -> None:
    """A name of an ingest has 1 to 1024 characters of text."""
    for ask in (content.open_ingest, content.status, content.abort):
        with pytest.raises(InvalidArgument):
            ask(reference)


def test_longest_reference_is_taken(content: NamespaceContent) -> None:
    """1024 characters are a name, of whatever script."""
    with content.open_ingest("é" * 1024) as ingest:
        ingest.write(DATA)
    assert [status.reference for status in content.ingests()] == ["é" * 1024]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, None, DATA), (2, 5, DATA[2:7]), (len(DATA), None, b""), (0, 0, b""), (5, 10_000, DATA[5:])],
)
def test_range_is_read_as_asked(content: NamespaceContent, offset: int, length: int | None, expected: bytes) -> None:
    """A reader gets the bytes it asked for, clipped at the end of the blob."""
    put(content, DATA)
    assert b"".join(content.read(DIGEST, offset, length)) == expected


@pytest.mark.parametrize(("offset", "length"), [(len(DATA) + 1, None), (-1, None), (0, -1)])
def test_range_outside_the_blob_is_out_of_range(content: NamespaceContent, offset: int, length: int | None) -> None:
    """A range that cannot be is refused before the first byte."""
    put(content, DATA)
    with pytest.raises(OutOfRange):
        content.read(DIGEST, offset, length)


def test_large_blob_is_read_in_bounded_chunks(content: NamespaceContent) -> None:
    """No reader is handed more than 1 MiB at once."""
    data = bytes(range(256)) * 4096 * 3 + b"tail"
    put(content, data)
    chunks = list(content.read(digest_of(data)))
    assert all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks)
    assert b"".join(chunks) == data


def test_labels_are_laid_over_those_that_are_there(content: NamespaceContent) -> None:
    """A change names what it changes: an empty value takes a label away, and what is not named stays."""
    before = put(content, DATA, a="1", b="2", c="3")
    after = content.label(DIGEST, {"b": "", "c": "4", "d": "5", "never there": ""})
    assert dict(after.labels) == {"a": "1", "c": "4", "d": "5"}
    assert content.info(DIGEST) == after
    assert after.created_ns == before.created_ns
    assert after.updated_ns >= before.updated_ns


def test_label_without_a_value_is_none(content: NamespaceContent) -> None:
    """An empty value means that there is no such label, in a commit as in a change."""
    assert dict(put(content, DATA, a="", b="x").labels) == {"b": "x"}


@pytest.mark.parametrize(("key", "value"), [("", "x"), ("k" * 96, "v" * 4001), ("é" * 2048, "x"), ("k", "\ud800")])
def test_label_that_breaks_its_rule_is_invalid(content: NamespaceContent, key: str, value: str) -> None:
    """Key and value have at most 4096 bytes together; a commit with a longer one leaves nothing."""
    put(content, b"something else", a="1")
    with pytest.raises(InvalidArgument):
        content.label(OTHER, {"fine": "x", key: value})
    assert dict(content.info(OTHER).labels) == {"a": "1"}
    with content.open_ingest("ref") as ingest:
        ingest.write(DATA)
        with pytest.raises(InvalidArgument):
            ingest.commit(DIGEST, len(DATA), {key: value})
    assert walked(content) == [OTHER]
    assert list(content.ingests()) == []


def test_longest_label_is_taken(content: NamespaceContent) -> None:
    """4096 bytes of key and value are a label, of whatever characters."""
    value = 'é\0\n"' + "v" * (MAX_LABEL_BYTES - 8)
    assert content.label(put(content, DATA).digest, {"key": value}).labels["key"] == value
    assert content.info(DIGEST).labels["key"] == value


def test_walk_gives_all_blobs_in_order(content: NamespaceContent) -> None:
    """A list of blobs is complete and ordered by digest."""
    blobs = [b"x" * n for n in range(20)]
    for blob in blobs:
        put(content, blob)
    assert walked(content) == sorted((digest_of(blob) for blob in blobs), key=str)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["labels.a==1"], [DATA]),
        (["labels.a"], [DATA, b"else"]),
        (["labels.a!=1"], [b"else", b"other"]),
        (['labels."containerd.io/x.y"~=^z+$'], [b"else"]),
        (["labels.containerd"], []),
        (["labels.a,size==4"], [b"else"]),
        (["labels.a==1", "size==5"], [DATA, b"other"]),
        ([f"digest=={DIGEST}"], [DATA]),
        (["nothing==x"], []),
        ([""], [DATA, b"else", b"other"]),
    ],
)
def test_walk_gives_what_a_filter_matches(content: NamespaceContent, filters: list[str], expected: list[bytes]) -> None:
    """A list can be narrowed by digest, size and labels, in containerd's language."""
    put(content, DATA, a="1")
    put(content, b"else", a="2", **{"containerd.io/x.y": "zzz"})
    put(content, b"other", b="1")
    assert walked(content, *filters) == sorted((digest_of(data) for data in expected), key=str)


def test_filter_that_cannot_be_read_is_invalid(content: NamespaceContent) -> None:
    """A mistake in a filter is told at once, with its position, not by an empty list."""
    with pytest.raises(InvalidArgument, match="position 8"):
        content.walk(["labels.a=1"])


def test_blob_changed_during_a_walk_does_not_end_it(content: NamespaceContent) -> None:
    """Who lists blobs may label and delete them on the way."""
    for n in range(10):
        put(content, b"x" * n)
    for blob in content.walk():
        content.label(blob.digest, {"seen": "yes"})
        content.delete(blob.digest)
    assert walked(content) == []


def test_blob_published_while_it_is_deleted_elsewhere_is_never_lost(body: Body) -> None:
    """Whatever one namespace deletes, the one that has just brought the same bytes can read them."""

    def bring_and_delete(namespace: str) -> None:
        content = body.of(namespace)
        for n in range(30):
            expected = DIGEST if n % 2 else None
            with content.open_ingest("ref", expected=expected) as ingest:
                if ingest.offset == 0:
                    ingest.write(DATA)
                ingest.commit(DIGEST, len(DATA))
            assert read(content, DIGEST) == DATA
            content.delete(DIGEST)

    with ThreadPoolExecutor() as threads:
        list(threads.map(bring_and_delete, ("one", "two", "three")))
    assert [walked(body.of(namespace)) for namespace in ("one", "two", "three")] == [[], [], []]
