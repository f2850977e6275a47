"""How an operation holds what it works with: when its lease is made, renewed, found to be lost, handed on, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import Unavailable
from hythe.holding import BATCH, BATCH_CHARACTERS, Held, Holder, batches
from hythe.ports.leases import Referred
from tests.fakes.leases import MemoryLeases
from tests.fixtures.waiting import until

PLACE = ("default", "r1")
LONG_S = 600.0


class Clock:
    """Seconds that only a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return now."""
        return self.now_s


def blobs(*names: str) -> list[Referred]:
    """Return one reference for each name."""
    return [Referred(digest_of(name.encode())) for name in names]


def kept(leases: MemoryLeases) -> set[Digest]:
    """Return what the lease of these tests keeps."""
    return set(leases.held.get(PLACE, {}))


def renewing() -> bool:
    """Tell whether any lease is being renewed."""
    return any(task.get_name() == "renew-lease" and not task.done() for task in asyncio.all_tasks())


async def hold_until_lost(leases: MemoryLeases, held: Held, contents: Sequence[Referred]) -> None:
    """Refer to `contents`, and let the lease run out unseen."""
    await held.refer(contents)
    leases.lose()


async def test_lease_is_there_from_the_reference_to_the_end() -> None:
    """What an operation refers to is kept until it ends, and nothing is asked of metadata before."""
    leases = MemoryLeases()
    async with Holder(leases).hold(*PLACE) as held:
        assert leases.log == []
        await held.refer(blobs("a"))
        await held.refer(blobs("b"))
        assert kept(leases) == {each.digest for each in blobs("a", "b")}
    await until(lambda: not leases.held, what="the lease is gone")
    assert (leases.log, renewing()) == (["refer", "refer", "remove"], False)


async def test_operation_that_refers_to_nothing_has_no_lease() -> None:
    """Who needs no lease costs metadata nothing."""
    leases = MemoryLeases()
    holder = Holder(leases)
    async with holder.hold(*PLACE) as held:
        assert await held.confirm()
    await holder.close()
    assert leases.log == []


async def test_failed_operation_leaves_no_lease() -> None:
    """An error ends the lease as success does, and is the one that is told."""
    leases = MemoryLeases()
    with pytest.raises(ValueError, match="broken"):
        async with Holder(leases).hold(*PLACE) as held:
            await held.refer(blobs("a"))
            raise ValueError("broken")
    await until(lambda: not leases.held and not renewing(), what="the lease is gone")


@pytest.mark.parametrize("steps", range(6))
async def test_operation_cancelled_at_any_point_leaves_no_lease(steps: int) -> None:
    """Whether the reference was sent, under way or acknowledged: who is cancelled keeps nothing."""
    leases = MemoryLeases()
    holder = Holder(leases)

    async def work() -> None:
        async with holder.hold(*PLACE) as held:
            await held.refer(blobs("a"))
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await holder.close()
    assert (leases.held, renewing()) == ({}, False)


async def test_end_of_an_operation_does_not_wait_for_its_lease_to_go() -> None:
    """Who waits for an operation doesn't wait for its clean-up; a process that stops does, for a while."""
    leases = MemoryLeases()
    holder = Holder(leases)
    async with holder.hold(*PLACE) as held:
        await held.refer(blobs("a"))
    assert kept(leases)
    await holder.close()
    assert not kept(leases)


async def test_metadata_away_refuses_the_reference_and_not_the_end() -> None:
    """Without a reference nothing may go on; a lease that can't be ended runs out by itself."""
    leases = MemoryLeases()
    holder = Holder(leases)
    leases.away = True
    with pytest.raises(Unavailable):
        async with holder.hold(*PLACE) as held:
            await held.refer(blobs("a"))
    await holder.close()
    assert leases.log == []


async def test_repeat_of_a_request_shares_its_lease() -> None:
    """An operation that is asked for again under its id goes on under the lease that was there."""
    leases = MemoryLeases()
    async with Holder(leases).hold(*PLACE) as first, Holder(leases).hold(*PLACE) as second:
        await first.refer(blobs("a"))
        await second.refer(blobs("b"))
        assert list(leases.held) == [PLACE]
        assert kept(leases) == {each.digest for each in blobs("a", "b")}


async def test_long_operation_renews_its_lease() -> None:
    """A transfer may take as long as it likes: its lease is renewed while it lives, also when metadata was away between."""
    leases = MemoryLeases()
    async with Holder(leases, duration_s=0.06).hold(*PLACE) as held:
        await held.refer(blobs("a"))
        await until(lambda: leases.log.count("renew") >= 3, what="the lease was renewed")
        leases.away = True
        await until(lambda: leases.refused >= 2, what="it could not be renewed")
        leases.away = False
        before = len(leases.log)
        await until(lambda: len(leases.log) > before, what="it is renewed again")
        assert kept(leases)


async def test_lost_lease_is_made_again_with_all_it_kept() -> None:
    """Where metadata has let a lease go, all is referred to again, and who asks is told to look again: once."""
    leases = MemoryLeases()
    async with Holder(leases, duration_s=0.06).hold(*PLACE) as held:
        await held.refer(blobs("a"))
        await hold_until_lost(leases, held, blobs("b"))
        await until(lambda: kept(leases), what="the lease is there again")
        assert kept(leases) == {each.digest for each in blobs("a", "b")}
        answers = [await held.confirm(), await held.confirm()]
    assert answers == [False, True]


async def test_lease_that_may_have_run_out_is_not_relied_on() -> None:
    """A process that was stopped for longer than its lease lasts refers to all of it again before it goes on."""
    leases, clock = MemoryLeases(), Clock()
    async with Holder(leases, duration_s=LONG_S, clock=clock).hold(*PLACE) as held:
        await held.refer(blobs("a"))
        clock.now_s += LONG_S / 2
        assert await held.confirm()
        assert leases.log == ["refer"]
        await hold_until_lost(leases, held, blobs("b"))
        clock.now_s += LONG_S
        assert not await held.confirm()
        assert kept(leases) == {each.digest for each in blobs("a", "b")}
        assert await held.confirm()


async def test_lease_near_its_end_is_renewed_before_it_is_relied_on() -> None:
    """What is begun under a lease has at least a third of its duration left; nothing was lost by that."""
    leases, clock = MemoryLeases(), Clock()
    async with Holder(leases, duration_s=LONG_S, clock=clock).hold(*PLACE) as held:
        await held.refer(blobs("a"))
        clock.now_s += LONG_S * 0.8
        assert await held.confirm()
        assert leases.log == ["refer", "refer"]


async def test_further_reference_after_the_lease_ran_out_brings_back_the_first() -> None:
    """A lease that is made anew in the middle of an operation keeps what was referred to before as well."""
    leases, clock = MemoryLeases(), Clock()
    async with Holder(leases, duration_s=LONG_S, clock=clock).hold(*PLACE) as held:
        await hold_until_lost(leases, held, blobs("a"))
        clock.now_s += LONG_S
        await held.refer(blobs("b"))
        assert kept(leases) == {each.digest for each in blobs("a", "b")}
        assert not await held.confirm()


async def test_lease_that_a_name_ends_is_left_alone() -> None:
    """Where the name of an image ends the lease with its own transaction, no further request is made."""
    leases = MemoryLeases()
    holder = Holder(leases)
    async with holder.hold(*PLACE) as held:
        await held.refer(blobs("a"))
        async with held.handed_over() as lease:
            assert lease == "r1"
            leases.end_with_name("default", lease)
    await holder.close()
    assert (leases.log, leases.held) == (["refer", "end with name"], {})
    await until(lambda: not renewing(), what="nobody renews it")


async def test_lease_whose_name_was_refused_is_held_on() -> None:
    """If the name could not be given, what was brought stays held, and the lease goes with the operation."""
    leases = MemoryLeases()
    holder = Holder(leases, duration_s=0.06)
    async with holder.hold(*PLACE) as held:
        await held.refer(blobs("a"))
        with pytest.raises(ValueError, match="taken"):
            async with held.handed_over():
                raise ValueError("taken")
        await until(lambda: "renew" in leases.log, what="it is renewed again")
    await holder.close()
    assert not leases.held


async def test_nothing_is_referred_to_after_the_end() -> None:
    """A thread that goes on after its operation was cancelled makes no lease that nobody would end."""
    leases = MemoryLeases()
    held = Holder(leases).open(*PLACE)
    held.end()
    with pytest.raises(Unavailable, match="ended"):
        await held.refer(blobs("a"))
    assert leases.log == []


def test_references_are_sent_in_parts_that_fit() -> None:
    """However large an image is, no request is larger than a message may be; nothing is named twice or left out."""
    many = [Referred(digest_of(str(i).encode())) for i in range(2 * BATCH + 1)]
    assert [len(batch) for batch in batches(many)] == [BATCH, BATCH, 1]
    assert [each for batch in batches(many) for each in batch] == many
    labelled = [Referred(each.digest, {"label": "x" * (BATCH_CHARACTERS // 2)}) for each in many[:3]]
    assert [len(batch) for batch in batches(labelled)] == [1, 1, 1]
    assert list(batches([])) == [[]]
