"""What an owner of content lets go in a collection, and what use keeps it from that."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import NotFound
from hythe_distribution.collecting import PAGE_BYTES
from hythe_distribution.records import BlobChange, Publication
from hythe_distribution.watch import IN_USE, USED_SINCE
from tests.fixtures.waiting import eventually
from tests.unit.distribution.owners import DIGEST, Owner


@pytest.fixture
def owner() -> Owner:
    """An owner of an empty store of one host."""
    return Owner()


def test_request_keeps_what_it_looked_at_until_it_ends(owner: Owner) -> None:
    """A pull that goes on for long loses nothing that it has found, however many collections begin meanwhile."""
    owner.put()
    with owner.watch.request():
        owner.seen.info(DIGEST)
        for _ in range(3):
            owner.begin()
            assert owner.sweep(DIGEST) == {str(DIGEST): IN_USE}
    assert owner.sweep(DIGEST) == {}
    assert list(owner.content.walk()) == []


def test_two_requests_keep_a_blob_until_the_last_ends(owner: Owner) -> None:
    """What two requests use is kept by the one that is left."""
    owner.put()
    with owner.watch.request():
        owner.seen.info(DIGEST)
        with owner.watch.request():
            owner.seen.info(DIGEST)
            owner.begin()
        assert owner.sweep(DIGEST) == {str(DIGEST): IN_USE}


def test_address_keeps_its_blob_as_long_as_it_is_good(owner: Owner) -> None:
    """Who was given an address finds the blob there, until the address has run out."""
    owner.put()
    owner.watch.promise(DIGEST, 30)
    owner.begin()
    assert owner.sweep(DIGEST) == {str(DIGEST): IN_USE}
    owner.clocks.pass_by(30_001)
    assert owner.sweep(DIGEST) == {}


def test_use_before_the_begin_keeps_nothing(owner: Owner) -> None:
    """Yesterday's look doesn't keep a blob that nothing refers to."""
    owner.put()
    owner.begin()
    owner.seen.info(DIGEST)
    assert owner.sweep(DIGEST) == {str(DIGEST): USED_SINCE}
    owner.begin()
    assert owner.sweep(DIGEST) == {}


def test_held_bytes_keep_the_blob_visible(owner: Owner) -> None:
    """What an import is about to publish isn't taken out of the namespace."""
    owner.put()
    with owner.library.hold([None]):
        owner.begin()
        assert owner.sweep(DIGEST) == {str(DIGEST): "held"}
    assert owner.sweep(DIGEST) == {}


def test_who_looks_for_a_blob_that_is_going_is_told_that_it_is_gone(owner: Owner) -> None:
    """A question that comes in the middle of a removal waits for its end, and is never answered with what goes."""
    owner.put()
    owner.begin()
    answers: list[str] = []

    def ask() -> None:
        try:
            owner.seen.info(DIGEST)
            answers.append("here")
        except NotFound:
            answers.append("gone")

    with owner.watch.taking([DIGEST]) as kept:
        assert kept == {}
        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: owner.watch.reason(DIGEST) == USED_SINCE, what="the question has come")
        assert answers == []
        owner.library.retention.take_out("default", [DIGEST])
    asking.join(10)
    assert answers == ["gone"]


def test_nobody_is_told_that_a_blob_is_there_which_then_goes(owner: Owner) -> None:
    """While collections sweep all they can, each request finds what it was told is there, to its end."""
    blobs = [f"blob {number}".encode() for number in range(20)]
    stop = threading.Event()
    lost: list[Digest] = []

    def use(seed: int) -> int:
        rounds = 0
        while not stop.is_set():
            data = blobs[(seed + rounds) % len(blobs)]
            digest = digest_of(data)
            rounds += 1
            with owner.watch.request():
                try:
                    owner.seen.info(digest)
                except NotFound:
                    with owner.seen.open_ingest(f"{seed}-{rounds}") as ingest:
                        ingest.write(data)
                        ingest.commit(digest)
                try:
                    owner.library.publish("default", [Publication(digest, len(data))])
                    if b"".join(owner.seen.read(digest)) != data:
                        lost.append(digest)
                except NotFound:
                    lost.append(digest)
        return rounds

    with ThreadPoolExecutor(4) as users:
        works = [users.submit(use, seed * 5) for seed in range(4)]
        removed = 0
        try:
            while removed < 200:
                owner.begin()
                swept = owner.collector.sweep(
                    owner.generation, owner.instance, "default", [digest_of(data) for data in blobs], dry_run=False
                )
                removed += len(swept.removed)
        finally:
            stop.set()
        assert all(work.result(20) > 0 for work in works)
    assert lost == []


def test_page_of_changes_stays_small_whatever_labels_there_are(owner: Owner) -> None:
    """An answer never outgrows a message of the bus: large records make pages of fewer."""
    labels = {f"containerd.io/gc.ref.content.{number}": "x" * 4000 for number in range(100)}
    for number in range(6):
        owner.records.publish("default", [Publication(digest_of(str(number).encode()), 1, labels)])
    after, pages, more = 0, 0, True
    found: list[BlobChange] = []
    while more:
        page, more = owner.collector.changes(after, 1000)
        assert sum(len(value) for change in page for value in change.labels.values()) <= PAGE_BYTES
        found += page
        after, pages = page[-1].sequence, pages + 1
    assert len(found) == 6
    assert pages == 3
