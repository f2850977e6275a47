"""Checking the blobs of a store: what is found, and what is made whole again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import NotFound, Unavailable
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.content_check import Checker, Finding
from hythe_distribution.hosts import Source
from hythe_distribution.records import Publication

NAMESPACE = "default"
GOOD, BAD = b"a whole blob", b"another blob"
SOURCE = "containerd.io/distribution.source."


class Store:
    """A directory store with records, and repositories that blobs can be fetched from again.

    Attributes:
        repositories: what each has, or the error that it answers with.
        asked: the repositories that were asked, in order.
        referred: the blobs that were kept from collection, in order.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.content = DirectoryContent(directory)
        self.records = MemoryRecords()
        self.repositories: dict[str, bytes | Unavailable] = {}
        self.asked: list[str] = []
        self.referred: list[Digest] = []
        self.checker = Checker(self.content, self.records, self.refetch)

    def put(self, data: bytes, *, namespace: str = NAMESPACE, **labels: str) -> Digest:
        """Store and publish a blob; `labels` are hosts with their repositories."""
        with self.content.open_ingest("put") as ingest:
            ingest.write(data)
            blob = ingest.commit()
        self.records.publish(
            namespace,
            [Publication(blob.digest, len(data), {f"{SOURCE}{host}": value for host, value in labels.items()})],
        )
        return blob.digest

    def spoil(self, digest: Digest) -> None:
        """Change a byte of a blob on the disk."""
        path = self.content.locate(digest)
        path.chmod(0o600)
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    def refetch(self, source: Source, digest: Digest, size_bytes: int, cancellation: Cancellation) -> None:
        """See `Refetch`."""
        assert digest in self.referred, "it is fetched only while it is held"
        self.asked.append(str(source))
        found = self.repositories.get(str(source))
        if isinstance(found, Unavailable):
            raise found
        if found is None:
            raise NotFound(f"fetch {digest} from {source}: not here")
        with self.content.open_ingest("again", total_bytes=size_bytes) as ingest:
            ingest.write(found)
            ingest.commit(digest, size_bytes)

    def check(self, *digests: Digest, repair: bool = False) -> list[Finding]:
        """Check the blobs named, or all."""
        blobs = self.checker.plan(NAMESPACE, digests)
        return list(
            self.checker.check(
                blobs,
                repair=repair,
                refer=self.referred.append,
                cancellation=Cancellation(),
                report=lambda *_: None,
            )
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "content")


def test_whole_blobs_give_no_findings(store: Store) -> None:
    """A store that is as it should be has nothing to say."""
    store.put(GOOD)
    store.put(BAD)
    assert store.check() == []


def test_changed_byte_is_found(store: Store) -> None:
    """A blob that the disk has changed is named, with the digest that its bytes have."""
    store.put(GOOD)
    digest = store.put(BAD)
    store.spoil(digest)
    (finding,) = store.check()
    assert (finding.digest, finding.state) == (digest, "corrupt")
    assert str(digest_of(store.content.locate(digest).read_bytes())) in finding.cause
    assert store.content.info(digest).size_bytes == len(BAD), "without --repair nothing is touched"


def test_blob_that_is_gone_is_found(store: Store) -> None:
    """A record without bytes is a finding."""
    digest = store.put(BAD)
    store.content.delete(digest)
    assert [(f.digest, f.state) for f in store.check()] == [(digest, "missing")]


@pytest.mark.parametrize("gone", [False, True])
def test_repair_fetches_from_where_the_blob_came_from(store: Store, gone: bool) -> None:
    """A corrupt or missing blob is whole again afterwards, and it is said where from."""
    digest = store.put(BAD, reg="team/app")
    store.repositories["reg/team/app"] = BAD
    if gone:
        store.content.delete(digest)
    else:
        store.spoil(digest)
    (finding,) = store.check(repair=True)
    assert (finding.state, finding.source) == ("repaired", "reg/team/app")
    assert store.content.locate(digest).read_bytes() == BAD
    assert store.check() == []


def test_repair_tries_each_repository_of_each_namespace(store: Store) -> None:
    """Whichever repository still has it helps, even one that another namespace knows."""
    digest = store.put(BAD, a="x/one,x/two")
    store.put(BAD, namespace="other", b="y")
    store.repositories = {"a/x/one": Unavailable("down"), "b/y": BAD}
    store.spoil(digest)
    (finding,) = store.check(repair=True)
    assert (finding.state, finding.source) == ("repaired", "b/y")
    assert store.asked == ["a/x/one", "a/x/two", "b/y"]


def test_corrupt_blob_that_nobody_has_is_removed_and_called_lost(store: Store) -> None:
    """Nothing that is not whole stays readable; the causes say who was asked."""
    digest = store.put(BAD, reg="gone")
    store.spoil(digest)
    (finding,) = store.check(repair=True)
    assert finding.state == "lost"
    assert "reg/gone" in finding.cause
    with pytest.raises(NotFound):
        store.content.info(digest)


def test_blob_of_unknown_origin_says_so(store: Store) -> None:
    """A blob that was ingested by hand cannot be fetched again."""
    store.spoil(store.put(BAD))
    (finding,) = store.check(repair=True)
    assert finding.state == "lost"
    assert "not known where it came from" in finding.cause


def test_named_blob_alone_is_checked(store: Store) -> None:
    """A check of one blob reads no other."""
    good, bad = store.put(GOOD), store.put(BAD)
    store.spoil(bad)
    assert store.check(good) == []
    with pytest.raises(NotFound):
        store.check(digest_of(b"never seen"))


def test_progress_counts_blobs_and_bytes(store: Store) -> None:
    """Who waits sees how far it is."""
    store.put(GOOD)
    store.put(BAD)
    told: list[tuple[int, int]] = []
    blobs = store.checker.plan(NAMESPACE, [])
    list(
        store.checker.check(
            blobs,
            repair=False,
            refer=store.referred.append,
            cancellation=Cancellation(),
            report=lambda *at: told.append(at),
        )
    )
    assert told[-1] == (2, len(GOOD) + len(BAD))
    assert told == sorted(told)


def test_cancelled_check_ends(store: Store) -> None:
    """A check that nobody waits for does not go on reading."""
    store.put(GOOD)
    cancellation = Cancellation()
    cancellation.cancel()
    blobs = store.checker.plan(NAMESPACE, [])
    with pytest.raises(Cancelled):
        list(
            store.checker.check(
                blobs,
                repair=True,
                refer=store.referred.append,
                cancellation=cancellation,
                report=lambda *_: None,
            )
        )
