"""What every body of the content port promises; a new body joins by one more entry in `BODIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hythe.digest import EMPTY_DIGEST, Digest, digest_of, parse_digest
from hythe.errors import DataLoss, NotFound, OutOfRange, Unavailable, Unimplemented
from hythe.ports.content import MAX_CHUNK_BYTES, Content
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.s3_store import S3Content


def _directory(request: pytest.FixtureRequest) -> Content:
    return DirectoryContent(request.getfixturevalue("tmp_path") / "content")


def _memory(request: pytest.FixtureRequest) -> Content:
    return MemoryContent()


def _s3(request: pytest.FixtureRequest) -> Content:
    return S3Content(request.getfixturevalue("bucket").open(), request.getfixturevalue("tmp_path") / "staging")


BODIES: dict[str, Callable[[pytest.FixtureRequest], Content]] = {
    "directory": _directory,
    "memory": _memory,
    "s3": _s3,
}
DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)
OTHER = digest_of(b"something else")


@pytest.fixture(params=BODIES)
def content(request: pytest.FixtureRequest) -> Content:
    """A fresh, empty store of each body."""
    return BODIES[request.param](request)


def put(content: Content, data: bytes, reference: str = "put") -> Digest:
    """Store `data` and return its digest."""
    with content.open_ingest(reference, total_bytes=len(data)) as ingest:
        ingest.write(data)
        ingest.commit(digest_of(data), len(data))
    return digest_of(data)


def read(content: Content, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
    """Read a range as one."""
    return b"".join(content.read(digest, offset, length))


def test_committed_blob_is_read_back_whole(content: Content) -> None:
    """What was committed is what is read."""
    put(content, DATA)
    assert read(content, DIGEST) == DATA
    assert content.info(DIGEST).size_bytes == len(DATA)
    assert content.info(DIGEST).committed_ns > 0


def test_empty_blob_is_a_blob(content: Content) -> None:
    """A blob may have no bytes at all."""
    put(content, b"")
    assert read(content, parse_digest(EMPTY_DIGEST)) == b""


def test_blob_written_in_pieces_is_one_blob(content: Content) -> None:
    """The pieces in which bytes come in leave no trace, and offset counts them."""
    with content.open_ingest("pieces") as ingest:
        for i in range(0, len(DATA), 3):
            assert ingest.offset == i
            ingest.write(memoryview(DATA)[i : i + 3])
        info = ingest.commit(DIGEST, len(DATA))
    assert info == content.info(DIGEST)
    assert read(content, DIGEST) == DATA


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, DATA),
        (2, None, DATA[2:]),
        (2, 5, DATA[2:7]),
        (len(DATA), None, b""),
        (0, 0, b""),
        (5, 10_000, DATA[5:]),
    ],
)
def test_range_is_read_as_asked(content: Content, offset: int, length: int | None, expected: bytes) -> None:
    """A reader gets the bytes it asked for, clipped at the end of the blob."""
    put(content, DATA)
    assert read(content, DIGEST, offset, length) == expected


@pytest.mark.parametrize(("offset", "length"), [(len(DATA) + 1, None), (-1, None), (0, -1)])
def test_range_outside_the_blob_is_out_of_range(content: Content, offset: int, length: int | None) -> None:
    """A range that cannot be is refused before the first byte."""
    put(content, DATA)
    with pytest.raises(OutOfRange):
        content.read(DIGEST, offset, length)


def test_large_blob_is_read_in_bounded_chunks(content: Content) -> None:
    """No reader is handed more than 1 MiB at once."""
    data = bytes(range(256)) * 4096 * 3 + b"tail"
    digest = put(content, data)
    chunks = list(content.read(digest))
    assert all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks)
    assert b"".join(chunks) == data


def test_unknown_blob_is_not_found(content: Content) -> None:
    """All that asks for a blob says alike that it isn't here."""
    for ask in (content.info, content.read, content.locate, content.delete, lambda digest: content.presign(digest, 60)):
        with pytest.raises(NotFound) as raised:
            ask(DIGEST)
        assert raised.value.details == {"kind": "blob"}


def test_bytes_before_commit_are_not_readable(content: Content) -> None:
    """Nothing can be read by digest before it was verified."""
    with content.open_ingest("half") as ingest:
        ingest.write(DATA)
        with pytest.raises(NotFound):
            content.info(DIGEST)
        assert list(content.walk()) == []


def test_what_was_written_can_be_read_back_while_it_comes(content: Content) -> None:
    """Who doesn't wait for the commit reads what is there, clipped at the last byte, and writing goes on after it."""
    with content.open_ingest("along") as ingest:
        assert ingest.read_back(0, 10) == b""
        ingest.write(DATA[:7])
        assert ingest.read_back(0, 100) == DATA[:7]
        assert ingest.read_back(2, 3) == DATA[2:5]
        assert ingest.read_back(7, 3) == b""
        ingest.write(DATA[7:])
        assert ingest.read_back(5, 100) == DATA[5:]
        ingest.commit(DIGEST, len(DATA))
        assert ingest.read_back(0, 100) == b""
    assert read(content, DIGEST) == DATA


def test_what_was_left_can_be_read_back_when_it_is_taken_up_again(content: Content) -> None:
    """Bytes of an earlier transfer are there for readers as well; a closed or aborted ingest gives none."""
    with content.open_ingest("along") as ingest:
        ingest.write(DATA[:7])
    assert ingest.read_back(0, 100) == b""
    with content.open_ingest("along", resume=True) as ingest:
        assert ingest.read_back(0, 100) == DATA[:7]
        ingest.abort()
        assert ingest.read_back(0, 100) == b""


def test_commit_without_a_promise_takes_the_bytes_own_digest(content: Content) -> None:
    """Who doesn't know the digest beforehand is told it."""
    with content.open_ingest("unknown") as ingest:
        ingest.write(DATA)
        info = ingest.commit()
    assert (info.digest, info.size_bytes) == (DIGEST, len(DATA))
    assert read(content, DIGEST) == DATA


@pytest.mark.parametrize("promise", [{"expected": DIGEST}, {"size_bytes": len(DATA)}])
def test_commit_checks_what_was_promised_and_no_more(content: Content, promise: dict[str, Any]) -> None:
    """Digest or size alone may be promised."""
    with content.open_ingest("right") as ingest:
        ingest.write(DATA)
        assert ingest.commit(**promise).digest == DIGEST
    with content.open_ingest("wrong") as ingest:
        ingest.write(DATA + b"x")
        with pytest.raises(DataLoss):
            ingest.commit(**promise)
    assert list(content.ingests()) == []


@pytest.mark.parametrize(
    ("digest", "size_bytes"), [(OTHER, len(DATA)), (DIGEST, len(DATA) + 1), (DIGEST, len(DATA) - 1), (DIGEST, 0)]
)
def test_commit_of_other_bytes_than_promised_leaves_nothing(content: Content, digest: Digest, size_bytes: int) -> None:
    """A lie about digest or size is DataLoss; neither blob nor ingest remain."""
    with content.open_ingest("lie") as ingest:
        ingest.write(DATA)
        with pytest.raises(DataLoss):
            ingest.commit(digest, size_bytes)
    assert list(content.walk()) == []
    assert list(content.ingests()) == []


def test_more_bytes_than_promised_are_refused_at_once(content: Content) -> None:
    """A source that never ends cannot fill the store."""
    with content.open_ingest("endless", total_bytes=10) as ingest:
        ingest.write(b"0123456789")
        with pytest.raises(DataLoss):
            ingest.write(b"x")
    assert list(content.ingests()) == []


def test_commit_of_a_blob_that_is_there_succeeds(content: Content) -> None:
    """Two who bring the same blob both succeed, and it stays as it is."""
    put(content, DATA, "first")
    put(content, DATA, "second")
    assert [info.digest for info in content.walk()] == [DIGEST]
    assert read(content, DIGEST) == DATA
    assert list(content.ingests()) == []


def test_closed_ingest_is_kept_and_taken_up_again(content: Content) -> None:
    """What an interrupted transfer brought counts when it goes on."""
    with content.open_ingest("later", total_bytes=len(DATA)) as ingest:
        ingest.write(DATA[:7])
    status = content.status("later")
    assert (status.offset, status.total_bytes) == (7, len(DATA))
    with content.open_ingest("later", total_bytes=len(DATA), resume=True) as ingest:
        assert ingest.offset == 7
        ingest.write(DATA[7:])
        ingest.commit(DIGEST, len(DATA))
    assert read(content, DIGEST) == DATA


def test_ingest_closed_before_its_first_byte_leaves_nothing(content: Content) -> None:
    """There is nothing to take up again, so nothing is kept."""
    content.open_ingest("empty", total_bytes=5).close()
    assert list(content.ingests()) == []


def test_ingest_opened_without_resume_starts_anew(content: Content) -> None:
    """Who doesn't ask for what was left gets an empty ingest."""
    with content.open_ingest("again", total_bytes=99) as ingest:
        ingest.write(b"old bytes, and many of them")
    with content.open_ingest("again") as ingest:
        assert ingest.offset == 0
        assert content.status("again").total_bytes is None
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))
    assert read(content, DIGEST) == DATA


def test_leftover_longer_than_the_total_is_removed(content: Content) -> None:
    """What can never become the promised blob is not kept."""
    with content.open_ingest("long") as ingest:
        ingest.write(DATA)
    with pytest.raises(DataLoss):
        content.open_ingest("long", total_bytes=3, resume=True)
    assert list(content.ingests()) == []


def test_wrong_leftover_is_found_at_commit(content: Content) -> None:
    """Bytes that were taken up again are verified like all others."""
    with content.open_ingest("bad") as ingest:
        ingest.write(b"?" * 7)
    with content.open_ingest("bad", resume=True) as ingest:
        ingest.write(DATA[7:])
        with pytest.raises(DataLoss):
            ingest.commit(DIGEST, len(DATA))
    assert list(content.walk()) == []
    assert list(content.ingests()) == []


def test_second_writer_of_an_ingest_is_refused(content: Content) -> None:
    """Two writers never mix their bytes; when one lets go, the other may come."""
    with content.open_ingest("one"):
        with pytest.raises(Unavailable):
            content.open_ingest("one")
        with pytest.raises(Unavailable):
            content.abort("one")
        with content.open_ingest("two"):
            pass
    content.open_ingest("one").close()


def test_aborted_ingest_is_gone(content: Content) -> None:
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


def test_ingests_are_listed_while_held_and_when_left(content: Content) -> None:
    """All that is under way can be seen, with how far it is."""
    with content.open_ingest("left", total_bytes=100) as ingest:
        ingest.write(DATA)
    with content.open_ingest("held é/../:*") as ingest:
        ingest.write(b"123")
        found = {status.reference: status for status in content.ingests()}
    assert {reference: status.offset for reference, status in found.items()} == {"left": len(DATA), "held é/../:*": 3}
    assert found["left"].total_bytes == 100
    assert 0 < found["left"].started_ns <= found["left"].updated_ns + 1_000_000


def test_deleted_blob_is_gone_and_others_stay(content: Content) -> None:
    """Delete takes one blob and no other."""
    put(content, DATA)
    other = put(content, b"something else")
    content.delete(DIGEST)
    assert [info.digest for info in content.walk()] == [other]
    with pytest.raises(NotFound):
        content.read(DIGEST)


def test_walk_names_every_blob(content: Content) -> None:
    """A walk finds all blobs with their sizes."""
    blobs = [b"x" * n for n in range(20)]
    for blob in blobs:
        put(content, blob)
    assert {(info.digest, info.size_bytes) for info in content.walk()} == {(digest_of(b), len(b)) for b in blobs}


def test_located_blob_is_a_file_with_its_bytes(content: Content) -> None:
    """Where a body keeps files, the path leads to the blob; where not, it says so."""
    put(content, DATA)
    try:
        path = content.locate(DIGEST)
    except Unimplemented:
        assert isinstance(content, MemoryContent | S3Content)
    else:
        assert path.read_bytes() == DATA


def test_presigned_blob_is_a_url_or_nothing(content: Content) -> None:
    """Where the store serves its blobs itself it says where, else its process has to."""
    put(content, DATA)
    url = content.presign(DIGEST, 60)
    if url is None:
        assert isinstance(content, DirectoryContent | MemoryContent)
    else:
        assert url.startswith(("http://", "https://"))
