"""What is noted during a collection: nothing that was used since its begin goes."""

from __future__ import annotations

import threading

from hythe_distribution.since_begin import SinceBegin


def test_what_was_used_since_the_begin_stays() -> None:
    """Something that is asked for in mid-collection is there afterwards."""
    used = SinceBegin()
    used.touch(["before"])
    used.begin()
    used.touch(["since"])
    assert used.may_go("before")
    assert not used.may_go("since")


def test_next_collection_forgets_what_the_last_one_noted() -> None:
    """What was used once doesn't stay for ever."""
    used = SinceBegin()
    used.begin()
    used.touch(["used"])
    used.begin()
    assert used.may_go("used")


def test_nothing_goes_before_a_collection_began() -> None:
    """After a restart, of which no collection knows yet, nothing is removed."""
    used = SinceBegin()
    assert not used.may_go("never")
    with used.taking(["never"]) as free:
        assert free == frozenset()


def test_too_many_names_keep_everything() -> None:
    """However much is used during a collection, memory stays bounded and nothing used is removed."""
    used = SinceBegin(most_names=3)
    used.begin()
    for number in range(5):
        used.touch([str(number)])
    assert not any(used.may_go(name) for name in ("0", "4", "never"))
    used.begin()
    assert used.may_go("never")


def test_who_looks_for_what_is_being_removed_waits_until_it_is_gone() -> None:
    """Nobody is told that something is there while it is on its way out."""
    used = SinceBegin()
    used.begin()
    there, answers = {"x"}, []
    asking = threading.Event()

    def look() -> None:
        asking.set()
        used.touch(["x"])
        answers.append("x" in there)

    reader = threading.Thread(target=look)
    with used.taking(["x", "y"]) as free:
        assert free == {"x", "y"}
        reader.start()
        assert asking.wait(10)
        there.discard("x")
        assert answers == []
    reader.join(10)
    assert answers == [False]
    with used.taking(["x", "y"]) as free:
        assert free == {"y"}
