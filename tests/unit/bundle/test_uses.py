"""What requests look at is left alone by collections."""

from __future__ import annotations

import asyncio

from hythe_bundle.uses import HELD, SINCE, Uses


async def test_what_was_used_since_the_begin_stays() -> None:
    """Something that is asked for in mid-collection is there afterwards; the next collection knows nothing of it."""
    uses = Uses()
    await uses.note("before")
    assert uses.why("before") == ""
    uses.begin()
    await uses.note("since", "")
    assert (uses.why("since"), uses.why("before")) == (SINCE, "")
    uses.begin()
    assert uses.why("since") == ""


async def test_what_a_request_looks_at_stays_until_it_ends() -> None:
    """A request that began before the collection keeps what it works with, also what tasks of its own look at."""
    uses = Uses()
    with uses.request():
        await uses.note("mine")
        with uses.request():
            await uses.note("mine")
        await asyncio.create_task(uses.note("a task's"))
        uses.begin()
        assert uses.all() == {"mine": HELD, "a task's": HELD}
    assert uses.all() == {}


async def test_work_that_outlives_its_request_keeps_nothing_for_ever() -> None:
    """What a request has begun and left to others notes uses as anybody does."""
    uses, go = Uses(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        await uses.note("late")

    with uses.request():
        task = asyncio.create_task(work())
    uses.begin()
    go.set()
    await task
    assert uses.why("late") == SINCE
    uses.begin()
    assert uses.why("late") == ""


async def test_too_many_names_keep_everything() -> None:
    """However much is used during a collection, memory stays bounded and nothing used is removed."""
    uses = Uses(most_names=3)
    uses.begin()
    for number in range(5):
        await uses.note(str(number))
    assert {uses.why(name) for name in ("0", "4", "never")} == {SINCE}
    uses.begin()
    assert uses.why("never") == ""


async def test_who_looks_for_what_is_being_removed_waits_until_it_is_gone() -> None:
    """Nobody is told that something is there while it is on its way out."""
    uses = Uses()
    uses.begin()
    with uses.taking("x") as reason:
        assert reason == ""
        looking = asyncio.create_task(uses.note("x"))
        await uses.note("y")
        assert not looking.done()
    await looking
    with uses.taking("x") as reason:
        assert reason == SINCE
        await uses.note("x")
