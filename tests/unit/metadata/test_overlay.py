"""Transactions laid over each other: savepoints of a body that has none."""

from __future__ import annotations

import pytest

from hythe.errors import AlreadyExists
from hythe.ports.metadata import Origin
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.changes import Happening, Moment
from hythe_metadata.overlay import Overlay
from hythe_metadata.records import Edge, Key

ONE, TWO = Key("image", "a", "1"), Key("image", "a", "2")
ORIGIN = Origin("a", "tester")


def batch() -> Overlay:
    """Return an overlay over an empty store."""
    return Overlay(MemoryStore(), Moment("", 1, 1))


def job(below: Overlay, revision: int) -> Overlay:
    """Return an overlay over another."""
    return Overlay(below, Moment("", revision, 1))


def test_absorbed_overlay_is_seen_by_the_next() -> None:
    """What one job of a batch has changed, the next one reads: records, names, references, counts, deletions."""
    below = batch()
    first = job(below, 1)
    first.put(ONE, "first", unique={"name": "n"}, edges=[Edge("content", "d", "l")])
    first.put(TWO, "second")
    below.absorb(first)
    second = job(below, 2)
    second.delete(TWO)
    below.absorb(second)
    third = job(below, 3)
    found = third.get(ONE)
    assert found is not None
    assert (found.body, found.revision) == ("first", 1)
    assert third.get(TWO) is None
    assert third.named("name", "a", "n") == ONE
    assert list(third.edges()) == [(ONE, Edge("content", "d", "l"))]
    assert third.occupants("a") == {"image": 1}
    with pytest.raises(AlreadyExists):
        third.put(TWO, "", unique={"name": "n"})


def test_overlay_that_is_not_absorbed_leaves_nothing() -> None:
    """A job that fails leaves no record, no name and no event, and what it took is free."""
    below = batch()
    kept = job(below, 1)
    kept.put(ONE, "kept", unique={"name": "n"})
    kept.emit(ORIGIN, Happening("image", "1", "created", "/t"))
    below.absorb(kept)
    failed = job(below, 2)
    failed.put(ONE, "failed", unique={"name": "other"})
    failed.put(TWO, "failed", unique={"name": "n"})
    failed.emit(ORIGIN, Happening("image", "2", "created", "/t"))
    after = job(below, 2)
    found = after.get(ONE)
    assert found is not None
    assert found.body == "kept"
    assert after.named("name", "a", "n") == ONE
    assert after.named("name", "a", "other") is None
    assert [happening.object_id for _, happening in below.changes_made.events] == ["1"]


def test_names_move_between_jobs_of_a_batch() -> None:
    """A name that one job gives up is free for the next, and all that is written in the end is where it went."""
    below = batch()
    for revision, (key, name) in enumerate([(ONE, "n"), (ONE, "m"), (TWO, "n")], 1):
        above = job(below, revision)
        above.put(key, "", unique={"name": name})
        below.absorb(above)
    assert dict(below.taken) == {("name", "a", "n"): TWO, ("name", "a", "m"): ONE}
