"""Work that is shared, and places that are few: who waits for whom, and what happens to those who leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hythe_bundle.flights import Flights
from hythe_bundle.slots import Slots


class Work:
    """Work that goes on until it is told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.cleaned_up = 0
        self.end = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, report: Callable[[str], None]) -> None:
        """Report, wait for the end, fail if so told."""
        self.begun += 1
        report("begun")
        try:
            await self.end.wait()
            if self.failure:
                raise self.failure
            report("ended")
        finally:
            await asyncio.sleep(0)
            self.cleaned_up += 1


async def turns(count: int = 5) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_work_wanted_twice_is_done_once() -> None:
    """All who want one thing wait for one piece of work, and each learns how it goes."""
    flights: Flights[str] = Flights()
    work, first, second = Work(), list[str](), list[str]()
    one = asyncio.create_task(flights.join("k", work, first.append))
    await turns()
    two = asyncio.create_task(flights.join("k", work, second.append))
    await turns()
    assert "k" in flights
    work.end.set()
    await asyncio.gather(one, two)
    assert work.begun == 1 and first == second == ["begun", "ended"] and "k" not in flights


async def test_failure_is_everybody_s_and_is_not_remembered() -> None:
    """Who waits gets the error; who comes later tries anew."""
    flights: Flights[str] = Flights()
    work = Work()
    work.failure = ValueError("no")
    tasks = [asyncio.create_task(flights.join("k", work, lambda news: None)) for _ in range(3)]
    await turns()
    work.end.set()
    assert [type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)] == [ValueError] * 3
    work.failure = None
    await flights.join("k", work, lambda news: None)
    assert work.begun == 2


async def test_work_stops_when_the_last_one_leaves() -> None:
    """One who leaves stops nothing; the last one does, and waits until everything is cleaned up."""
    flights: Flights[str] = Flights()
    work = Work()
    tasks = [asyncio.create_task(flights.join("k", work, lambda news: None)) for _ in range(2)]
    await turns()
    tasks[0].cancel()
    await turns()
    assert work.cleaned_up == 0
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks) and work.cleaned_up == 1


async def test_who_comes_while_work_is_being_stopped_gets_new_work() -> None:
    """Nobody is cancelled because somebody else was."""
    flights: Flights[str] = Flights()
    work = Work()
    leaving = asyncio.create_task(flights.join("k", work, lambda news: None))
    await turns()
    leaving.cancel()
    await asyncio.sleep(0)
    coming = asyncio.create_task(flights.join("k", work, lambda news: None))
    await turns(10)
    work.end.set()
    await coming
    assert work.begun == 2


async def test_largest_goes_first() -> None:
    """Of those who wait for a place the largest gets it, and of equals the one that came first."""
    slots, order, gate = Slots(1), list[str](), asyncio.Event()

    async def use(name: str, size: int) -> None:
        async with slots.hold(size):
            order.append(name)
            await gate.wait()

    tasks = []
    for name, size in (("running", 1), ("small", 1), ("large", 9), ("large too", 9), ("middle", 5)):
        tasks.append(asyncio.create_task(use(name, size)))
        await turns()
    assert order == ["running"]
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["running", "large", "large too", "middle", "small"]


@pytest.mark.parametrize("turns_before", range(4))
async def test_place_is_never_lost_to_one_who_left(turns_before: int) -> None:
    """Whenever a waiting one is cancelled, the place goes to the next."""
    slots = Slots(1)

    async def use() -> None:
        async with slots.hold(1):
            await turns()

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await turns(4 + turns_before)
    second.cancel()
    await asyncio.wait([first, second])
    await asyncio.wait_for(use(), 1)
