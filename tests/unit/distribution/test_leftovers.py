"""By which clocks ingests and bytes that nobody sees count as left, and what keeps them."""

from __future__ import annotations

import pytest

from hythe_distribution.leftovers import IDLE_S, Named
from tests.unit.distribution.owners import DIGEST, Owner

DAY_MS = int(IDLE_S * 1000)


@pytest.fixture
def owner() -> Owner:
    """An owner of an empty store of one host."""
    return Owner()


@pytest.fixture
def left(owner: Owner) -> Owner:
    """An owner with two ingests that somebody left, one of a namespace and one of a download."""
    owner.clocks.wall_ns = 0
    for reference in ("ns/default/mine", "layer-sha256:x"):
        with owner.content.open_ingest(reference) as ingest:
            ingest.write(b"12345")
    newest_ns = max(status.updated_ns for status in owner.content.ingests())
    owner.clocks.wall_ns = newest_ns
    return owner


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
