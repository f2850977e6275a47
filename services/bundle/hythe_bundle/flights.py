"""Work that several want at once is done once: each flight has one task, which is stopped when nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ReportT = TypeVar("ReportT")


@dataclass(slots=True, eq=False)
class _Flight(Generic[ReportT]):
    task: asyncio.Task[None] | None = None
    watches: list[Callable[[ReportT], None]] = field(default_factory=list)
    last: ReportT | None = None
    stopping: bool = False


class Flights(Generic[ReportT]):
    """Work in progress by key."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[ReportT]] = {}

    def __contains__(self, key: str) -> bool:
        """Tell whether work for `key` is in progress."""
        return key in self._flights

    async def join(
        self,
        key: str,
        work: Callable[[Callable[[ReportT], None]], Awaitable[None]],
        watch: Callable[[ReportT], None],
    ) -> None:
        """Wait for the work of `key`, which `work` begins if nobody has; its error is everybody's.

        A cancelled caller leaves; the last to leave stops the work and waits until it has cleaned up.

        Args:
            work: called with the function by which it reports how it goes.
            watch: told each report from now on, and at once the last one.
        """
        while (flight := self._flights.get(key)) is not None and flight.stopping:
            assert flight.task is not None
            await asyncio.wait([flight.task])
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.get_running_loop().create_task(self._fly(key, flight, work))
        elif flight.last is not None:
            watch(flight.last)
        flight.watches.append(watch)
        assert flight.task is not None
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.watches.remove(watch)
            if not flight.watches and not flight.task.done():
                flight.stopping = True
                flight.task.cancel()
                await asyncio.wait([flight.task])

    async def _fly(
        self,
        key: str,
        flight: _Flight[ReportT],
        work: Callable[[Callable[[ReportT], None]], Awaitable[None]],
    ) -> None:
        def report(news: ReportT) -> None:
            flight.last = news
            for watch in tuple(flight.watches):
                watch(news)

        try:
            await work(report)
        finally:
            del self._flights[key]
