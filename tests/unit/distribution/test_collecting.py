"""What an owner of content lets go in a collection, by which clocks, and what use keeps it from that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import NotFound
from hythe.gc_trust import StoreMark
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.trust_local import LocalTrust
from hythe_distribution.collecting import PAGE_BYTES, Collector
from hythe_distribution.leftovers import IDLE_S, Leftovers, Named
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import BlobChange, Publication
from hythe_distribution.trusting import Trustee
from hythe_distribution.watch import IN_USE, USED_SINCE, Watch
from hythe_distribution.watched import WatchedContent
from tests.fixtures.waiting import eventually

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)
DAY_MS = int(IDLE_S * 1000)


class Clocks:
    """CLOCK_BOOTTIME and the wall clock, moved by the test."""

    def __init__(self) -> None:
        self.boot_ms, self.wall_ns = 1_000, 1_000_000_000_000_000_000

    def pass_by(self, milliseconds: int) -> None:
        """Let time go by for both."""
        self.boot_ms += milliseconds
        self.wall_ns += milliseconds * 1_000_000


class Owner:
    """An owner in memory that trusts its store."""

    def __init__(self, *, shared: str = "") -> None:
        self.clocks = Clocks()
        self.content, self.records = MemoryContent(), MemoryRecords()
        self.records.ledger.note("virgin", "1")
        self.shared = shared
        self.generation, self.instance = 0, ""
        self.start()

    def start(self) -> None:
        """Become another process over the same store."""
        self.watch = Watch(lambda: self.clocks.boot_ms)
        self.seen = WatchedContent(self.content, self.watch)
        self.library = Library(self.content, self.records, self.watch)
        self.leftovers = Leftovers(
            self.library,
            self.content,
            self.records,
            self.watch,
            clock_ms=lambda: self.clocks.boot_ms,
            wall_ns=lambda: self.clocks.wall_ns,
        )
        trustee = Trustee(_Shared(LocalTrust(self.records.ledger), self.shared))
        self.collector = Collector(self.library, self.records, self.watch, trustee, self.leftovers, "a process")

    def begin(self) -> None:
        """Begin the next collection."""
        self.generation += 1
        self.instance = self.collector.begin(StoreMark("a" * 32, 1, 1, self.generation)).instance

    def sweep(self, *digests: Digest) -> dict[str, str]:
        """Sweep blobs of the default namespace, and return why some stayed."""
        return dict(self.collector.sweep(self.generation, self.instance, "default", digests, dry_run=False).kept)

    def clear(self, *keep: Named, dry_run: bool = False) -> list[str]:
        """Collect what was left, and return what went."""
        self.begin()
        return list(self.collector.sweep_leftovers(self.generation, self.instance, keep, dry_run=dry_run).removed)

    def put(self, data: bytes = DATA, namespace: str = "default") -> Digest:
        """Store a blob that a namespace sees."""
        with self.library.of(namespace).open_ingest(f"put-{digest_of(data)}") as ingest:
            ingest.write(data)
            return ingest.commit().digest

    def put_unseen(self, data: bytes = DATA) -> Digest:
        """Store a blob that no namespace sees, as a crash before its publication leaves it."""
        with self.content.open_ingest("unseen") as ingest:
            ingest.write(data)
            return ingest.commit().digest


class _Shared:
    """A `TrustPlace` of a store that other hosts share."""

    def __init__(self, place: LocalTrust, shared: str) -> None:
        self.virgin, self.load, self.save = place.virgin, place.load, place.save
        self._shared = shared

    def shared(self) -> str:
        """Return the id of the store."""
        return self._shared


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


@pytest.fixture
def left(owner: Owner) -> Iterator[Owner]:
    """An owner with two ingests that somebody left, one of a namespace and one of a download."""
    owner.clocks.wall_ns = 0
    for reference in ("ns/default/mine", "layer-sha256:x"):
        with owner.content.open_ingest(reference) as ingest:
            ingest.write(b"12345")
    newest_ns = max(status.updated_ns for status in owner.content.ingests())
    owner.clocks.wall_ns = newest_ns
    yield owner


def test_ingest_goes_when_a_day_went_by_without_a_byte(left: Owner) -> None:
    """What nobody goes on with is removed after a day, and not before."""
    assert left.clear() == []
    left.clocks.pass_by(DAY_MS - 1)
    assert left.clear() == []
    left.clocks.pass_by(1)
    assert left.clear(dry_run=True) == [" layer-sha256:x", "default mine"]
    assert left.clear(Named("default", "mine")) == [" layer-sha256:x"]
    assert left.clear() == ["default mine"]
    assert list(left.content.ingests()) == []


def test_wall_clock_that_jumps_removes_no_ingest(left: Owner) -> None:
    """A clock that is set a year ahead, before or after the start, makes nothing old."""
    left.clear()
    left.clocks.wall_ns += 365 * 86_400 * 1_000_000_000
    assert left.clear() == []
    left.start()
    assert left.clear() == []
    left.clocks.pass_by(DAY_MS - 1000)
    assert left.clear() == []


def test_idle_time_adds_up_over_the_lives_of_the_process(left: Owner) -> None:
    """A service that is started anew each night still removes what was left."""
    left.clear()
    left.clocks.pass_by(DAY_MS // 2)
    assert left.clear() == []
    left.clocks.pass_by(DAY_MS)  # nobody looks while it is away: that time doesn't count
    left.start()
    assert left.clear() == []
    left.clocks.pass_by(DAY_MS // 2)
    assert set(left.clear()) == {" layer-sha256:x", "default mine"}


def test_ingest_that_was_gone_on_with_begins_anew(left: Owner) -> None:
    """Who writes a byte has another day."""
    left.clear()
    left.clocks.pass_by(DAY_MS - 1)
    left.clear()
    with left.content.open_ingest("layer-sha256:x", resume=True) as ingest:
        ingest.write(b"6")
    left.clocks.pass_by(1)
    assert left.clear() == ["default mine"]


def test_ingest_that_somebody_holds_stays(left: Owner) -> None:
    """A writer that is only slow keeps what it has."""
    with left.library.of("default").open_ingest("mine", resume=True):
        left.clear()
        left.clocks.pass_by(2 * DAY_MS)
        assert left.clear() == [" layer-sha256:x"]
        assert left.clear(dry_run=True) == []


def test_bytes_that_nobody_sees_go_with_the_second_collection_that_finds_them(owner: Owner) -> None:
    """What a crash left is removed once two collections of one life of the process have found it unused."""
    owner.put_unseen()
    assert owner.clear() == []
    owner.start()
    assert owner.clear() == []
    assert owner.clear(dry_run=True) == [f" {DIGEST}"]
    assert owner.clear() == [f" {DIGEST}"]
    assert list(owner.content.walk()) == []


@pytest.mark.parametrize("use", ["look", "hold", "request"])
def test_bytes_that_somebody_uses_stay_though_nobody_sees_them(owner: Owner, use: str) -> None:
    """A download that isn't published yet is not taken from under whoever brings it."""
    owner.put_unseen()
    owner.clear()
    if use == "look":
        owner.seen.info(DIGEST)
        assert owner.clear() == []
    elif use == "hold":
        with owner.library.retention.hold([DIGEST]):
            assert owner.clear() == []
    else:
        with owner.watch.request():
            owner.seen.info(DIGEST)
            for _ in range(3):
                assert owner.clear() == []
    assert [blob.digest for blob in owner.content.walk()] == [DIGEST]


def test_bytes_of_a_shared_store_that_nobody_sees_stay_for_a_day() -> None:
    """In a bucket another host may be about to publish what this one knows nothing of."""
    owner = Owner(shared="bucket")
    owner.put_unseen()
    owner.clear()
    owner.clocks.pass_by(DAY_MS - 1)
    assert owner.clear() == []
    owner.clocks.pass_by(1)
    assert owner.clear() == [f" {DIGEST}"]
