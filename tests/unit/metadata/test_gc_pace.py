"""When collections begin by themselves, and who shares one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from hythe.errors import HytheError, Unavailable
from hythe_metadata.gc.cycle import Wish
from hythe_metadata.gc.pace import LEAST_PAUSE_S, STARTUP_S, Pace, Thresholds
from hythe_metadata.gc.report import Report
from hythe_metadata.gc.scheduler import Scheduler
from tests.fakes.gc_world import World


def test_a_hundred_changes_or_one_deletion_make_a_collection_due() -> None:
    """containerd's defaults: after 100 changes, or any deletion, once the pause is over."""
    for changes, deletions, due in ((99, 0, None), (100, 0, 0.0), (1, 1, 0.0)):
        pace = Pace(Thresholds(interval_s=0), 0.0)
        pace.changed(changes, deletions)
        assert pace.due_s(STARTUP_S) == due
    assert Pace(Thresholds(interval_s=0), 0.0).due_s(1e6) is None


def test_threshold_of_deletions_waits_for_that_many_and_then_for_nothing() -> None:
    """With a threshold fewer deletions don't count, and reaching it starts a collection at once."""
    pace = Pace(Thresholds(deletions=3, interval_s=0), 0.0)
    pace.changed(2, 2)
    assert pace.due_s(STARTUP_S) is None
    pace.changed(1, 1)
    assert pace.due_s(1.0) == 0.0


def test_timer_makes_a_collection_due_without_any_change() -> None:
    """A leaked lease ends by time alone, so time alone must start a collection."""
    pace = Pace(Thresholds(interval_s=600), 0.0)
    assert pace.due_s(1.0) == 599.0
    pace.collected(600.0, 601.0)
    assert pace.due_s(601.0) == 600.0


def test_collections_take_no_more_than_their_part_of_all_time() -> None:
    """With 0.02 a collection of two seconds is followed by 98 without one, whatever changes."""
    pace = Pace(Thresholds(mutations=1, interval_s=0, pause=0.02), 0.0)
    pace.collected(100.0, 102.0)
    pace.changed(50, 50)
    assert pace.due_s(102.0) == pytest.approx(98.0)
    pace.collected(200.0, 200.0)
    pace.changed(50, 50)
    assert pace.due_s(200.0) == pytest.approx(49.0)


def test_failed_collection_is_tried_again_after_a_while() -> None:
    """What was counted still counts, and nobody tries without a pause."""
    pace = Pace(Thresholds(interval_s=0), 0.0)
    pace.changed(100, 0)
    pace.failed(20.0)
    assert pace.due_s(20.0) == LEAST_PAUSE_S


class Collections:
    """Collections that end when a test says so.

    Attributes:
        began: what was asked for, in order; `waits_s`: how long each may wait for another process.
        error: raised instead of a report.
    """

    def __init__(self) -> None:
        self.began: list[Wish] = []
        self.waits_s: list[float] = []
        self.noted: list[Report | None] = []
        self.error: Exception | None = None
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def collect(self, wish: Wish, headers: Mapping[str, str] | None, wait_s: float) -> Report:
        """Collect nothing."""
        self.began.append(wish)
        self.waits_s.append(wait_s)
        self.started.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Report(len(self.began), wish.dry_run)

    def note(self, report: Report | None, seconds: float) -> None:
        """Note what is told of a collection."""
        self.noted.append(report)


@asynccontextmanager
async def running(
    collections: Collections, world: World, now: list[float], thresholds: Thresholds | None = None
) -> AsyncIterator[Scheduler]:
    """Run a scheduler; the last of `now` is what its clock says."""
    limits = thresholds or Thresholds(interval_s=0)
    scheduler = Scheduler(world.store, collections.collect, limits, collections.note, lambda: now[-1])
    world.store.on_change(scheduler.changed)
    task = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_requests_share_a_collection_that_began_after_them() -> None:
    """Three who ask while one runs wait for one more: what they removed before isn't missed."""
    collections, world = Collections(), World()
    async with running(collections, world, [0.0]) as scheduler:
        collections.gate.clear()
        first = asyncio.create_task(scheduler.collect())
        await collections.started.wait()
        others = [asyncio.create_task(scheduler.collect()) for _ in range(3)]
        dry = asyncio.create_task(scheduler.collect(Wish(dry_run=True)))
        await asyncio.sleep(0)
        collections.gate.set()
        assert (await first).generation == 1
        assert [(await other).generation for other in others] == [2, 2, 2]
        assert (await dry).dry_run
        assert collections.began == [Wish(), Wish(), Wish(dry_run=True)]


async def test_who_stops_waiting_does_not_stop_the_collection() -> None:
    """An interrupted `hythe gc` takes nothing away from another who waits for the same."""
    collections, world = Collections(), World()
    async with running(collections, world, [0.0]) as scheduler:
        collections.gate.clear()
        impatient, patient = asyncio.create_task(scheduler.collect()), asyncio.create_task(scheduler.collect())
        await collections.started.wait()
        impatient.cancel()
        collections.gate.set()
        assert (await patient).generation == 1


@pytest.mark.parametrize("error", [Unavailable("collect garbage: not now"), RuntimeError("a fault")])
async def test_failed_collection_is_told_and_ends_nothing(error: Exception) -> None:
    """Who asked gets the error, the figures count it, and the next collection works."""
    collections, world = Collections(), World()
    collections.error = error
    async with running(collections, world, [0.0]) as scheduler:
        with pytest.raises((HytheError, RuntimeError)):
            await scheduler.collect()
        collections.error = None
        assert (await scheduler.collect()).generation == 2
    assert collections.noted[0] is None


async def test_deletion_in_the_store_starts_a_collection() -> None:
    """Nobody needs to ask: a record that goes makes one due, and a look at the store finds it."""
    collections, world = Collections(), World()
    now = [0.0]
    async with running(collections, world, now) as scheduler:
        await scheduler.collect()
        await world.image("a:1", "app")
        await world.remove_image("a:1")
        collections.started.clear()
        now.append(1000.0)
        await asyncio.wait_for(collections.started.wait(), 10)
    assert len(collections.began) == 2
    assert collections.waits_s == [30.0, 0.0]


async def test_collection_of_another_process_is_no_failure() -> None:
    """Of several metadata processes whose timers ring at once one collects, and the others say nothing of it."""
    collections, world = Collections(), World()
    collections.error = Unavailable("collect garbage: another metadata process does it just now")
    now = [1000.0]
    async with running(collections, world, now, Thresholds(interval_s=600)):
        now.append(2000.0)
        await asyncio.wait_for(collections.started.wait(), 10)
    assert collections.noted == []


async def test_own_changes_of_a_collection_start_no_other() -> None:
    """A collection that ends leases and learns of blobs doesn't cause the next one."""
    world = await World().begin()
    await world.lease("old", duration_s=1)
    await world.collect(dry_run=True)
    world.clocks.pass_s(2)
    now = [0.0]
    reports: list[Report | None] = []
    scheduler = Scheduler(
        world.store,
        world.collector.collect,
        Thresholds(interval_s=0),
        lambda report, _: reports.append(report),
        lambda: now[-1],
    )
    world.store.on_change(scheduler.changed)
    task = asyncio.create_task(scheduler.run())
    report = await scheduler.collect()
    assert report.leases == 1
    now.append(1000.0)
    assert scheduler.within_s() is None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_stopped_scheduler_leaves_nobody_waiting() -> None:
    """Who asks while metadata stops is told so."""
    collections, world = Collections(), World()
    async with running(collections, world, [0.0]) as scheduler:
        collections.gate.clear()
        asked = asyncio.create_task(scheduler.collect())
        await collections.started.wait()
        later = asyncio.create_task(scheduler.collect())
        await asyncio.sleep(0)
    for task in (asked, later):
        with pytest.raises(Unavailable, match="stopping"):
            await task
    with pytest.raises(Unavailable, match="stopping"):
        await scheduler.collect()
