"""What owners in memory note during a collection is what real ones do: nothing that was used since its begin goes."""

from __future__ import annotations

from tests.fakes.gc_watch import Watch


def test_what_was_used_since_the_begin_stays() -> None:
    """Something that is asked for in mid-collection is there afterwards."""
    watch = Watch("life")
    watch.touch(["before"])
    instance = watch.begin(3)
    watch.touch(["since"])
    assert watch.may_go(3, instance, "before")
    assert not watch.may_go(3, instance, "since")


def test_next_collection_forgets_what_the_last_one_noted() -> None:
    """What was used once doesn't stay for ever."""
    watch = Watch("life")
    watch.begin(3)
    watch.touch(["used"])
    instance = watch.begin(4)
    assert watch.may_go(4, instance, "used")


def test_sweep_of_another_collection_or_life_removes_nothing() -> None:
    """A sweep that comes late, or after a restart of the owner, finds nothing to remove."""
    watch = Watch("life")
    assert not watch.may_go(3, "life", "x")
    watch.begin(3)
    assert not watch.may_go(3, "another life", "x")
    watch.begin(4)
    assert not watch.may_go(3, "life", "x")
    assert watch.is_current(4, "life")
