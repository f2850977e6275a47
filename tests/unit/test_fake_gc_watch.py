"""What an owner notes during a collection: nothing that was used since its begin goes."""

from __future__ import annotations

import threading

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


def test_too_many_names_keep_everything() -> None:
    """However much is used during a collection, the owner's memory stays bounded and nothing used is removed."""
    watch = Watch("life", most_names=3)
    watch.begin(1)
    for number in range(5):
        watch.touch([str(number)])
    assert not any(watch.may_go(1, "life", name) for name in ("0", "4", "never"))
    watch.begin(2)
    assert watch.may_go(2, "life", "never")


def test_who_looks_for_what_is_being_removed_waits_until_it_is_gone() -> None:
    """Nobody is told that something is there while it is on its way out."""
    watch = Watch("life")
    watch.begin(1)
    there, answers = {"x"}, []
    asking = threading.Event()

    def look() -> None:
        asking.set()
        watch.touch(["x"])
        answers.append("x" in there)

    reader = threading.Thread(target=look)
    with watch.taking(1, "life", ["x", "y"]) as free:
        assert free == {"x", "y"}
        reader.start()
        assert asking.wait(10)
        there.discard("x")
        assert answers == []
    reader.join(10)
    assert answers == [False]
    with watch.taking(1, "life", ["x", "y"]) as free:
        assert free == {"y"}
