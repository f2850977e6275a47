"""Runs collections: by themselves when they are due, and for those who ask; requests of one kind share a run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from hythe import tracing
from hythe.errors import HytheError, OutOfRange, Unavailable
from hythe_metadata import contents
from hythe_metadata.gc.cycle import Wish
from hythe_metadata.gc.pace import Pace, Thresholds
from hythe_metadata.gc.report import Report
from hythe_metadata.records import RecordStore, View

WAIT_S = 30.0
"""Who asks waits so long for another metadata process to end its collection; one that is due by itself waits for none."""
LOOK_S = 1.0
"""Changes are counted this often at most."""
_MOST_CHANGES = 1000

Collect = Callable[[Wish, Mapping[str, str] | None, float], Awaitable[Report]]
"""Collects; given the trace context of who asked first, None where nobody did, and how long to wait for the turn."""

log = logging.getLogger(__name__)


class Scheduler:
    """The collections of one metadata process."""

    def __init__(
        self,
        store: RecordStore,
        collect: Collect,
        thresholds: Thresholds,
        noted: Callable[[Report | None, float], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`noted` is told of each collection, None for one that failed, and how many seconds it took."""
        self._store = store
        self._collect = collect
        self._noted = noted
        self._clock_s = clock_s
        self._pace = Pace(thresholds, clock_s())
        self._asked: dict[Wish, tuple[asyncio.Future[Report], Mapping[str, str]]] = {}
        self._wake = asyncio.Event()
        self._changed = True
        self._counted: int | None = None
        self._stopped = False

    def changed(self) -> None:
        """Note that the store has changed; quick."""
        self._changed = True

    async def collect(self, wish: Wish | None = None) -> Report:
        """Return what a collection did that began after this was called; several calls share one.

        Raises:
            HytheError: see `hythe_metadata.gc.cycle.Collector.collect`.
        """
        if self._stopped:
            raise Unavailable("collect garbage: metadata is stopping", service="metadata", outcome="not started")
        wish = wish or Wish()
        if wish not in self._asked:
            headers: dict[str, str] = {}
            tracing.inject(headers)
            self._asked[wish] = asyncio.get_running_loop().create_future(), headers
            self._wake.set()
        return await asyncio.shield(self._asked[wish][0])

    def within_s(self) -> float | None:
        """Return in how many seconds the next collection is due; None while nothing makes one due."""
        return self._pace.due_s(self._clock_s())

    async def run(self) -> None:
        """Collect until cancelled; whatever fails is said in the log and tried again."""
        try:
            while True:
                await self._count()
                due_s = self._pace.due_s(self._clock_s())
                if self._asked:
                    wish = next(iter(self._asked))
                    await self._once(wish, *self._asked.pop(wish))
                elif due_s == 0:
                    await self._once(Wish(), None)
                else:
                    await self._rest(LOOK_S if due_s is None else min(LOOK_S, due_s))
        finally:
            self._stopped = True
            for future, _ in self._asked.values():
                future.set_exception(Unavailable("collect garbage: metadata is stopping", service="metadata"))
                future.exception()  # somebody may have stopped waiting

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for may swallow a cancellation that comes with the wake
                await self._wake.wait()
        self._wake.clear()

    async def _once(
        self, wish: Wish, future: asyncio.Future[Report] | None, headers: Mapping[str, str] | None = None
    ) -> None:
        began_s = self._clock_s()
        try:
            report = await self._collect(wish, headers, WAIT_S if future else 0.0)
        except Exception as error:  # the periodic loop: the next collection makes up for it
            self._pace.failed(self._clock_s())
            if future is None and isinstance(error, Unavailable):
                log.info("no collection now", extra={"cause": error.message})
                return
            if isinstance(error, HytheError):
                log.warning("a collection failed", extra={"cause": error.whole})
            else:
                log.exception("a collection failed")
            self._noted(None, self._clock_s() - began_s)
            self._answer(future, error)
            return
        except BaseException:
            self._answer(future, Unavailable("collect garbage: metadata is stopping", service="metadata"))
            raise
        ended_s = self._clock_s()
        if not wish.dry_run:
            self._pace.collected(began_s, ended_s)
            self._counted, self._changed = report.revision, True
            await self._count(own_deletions=report.leases)
        self._noted(report, ended_s - began_s)
        self._answer(future, report)

    @staticmethod
    def _answer(future: asyncio.Future[Report] | None, answer: Report | Exception) -> None:
        if future is None or future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
            future.exception()  # somebody may have stopped waiting
        else:
            future.set_result(answer)

    async def _count(self, own_deletions: int = 0) -> None:
        """Count what has changed since this was called last; what was there at the start counts as nothing."""
        if not self._changed:
            return
        self._changed = False
        try:
            self._counted, mutations, deletions = await self._store.read(_changes(self._counted))
        except HytheError as error:
            self._changed = True
            log.warning("changes could not be counted", extra={"cause": error.message})
            return
        self._pace.changed(mutations, max(0, deletions - own_deletions))


def _changes(after: int | None) -> Callable[[View], tuple[int, int, int]]:
    """Return what counts the changes beyond a revision, and deletions among them; at least so many if there are very many.

    Hints of content don't count: collections write them themselves, and whoever brings content changes a lease or a name.
    """

    def read(view: View) -> tuple[int, int, int]:
        now = view.moment.revision - 1
        if after is None or now <= after:
            return now, 0, 0
        try:
            found = view.changes(after, _MOST_CHANGES)
        except OutOfRange:
            return now, now - after, 1
        counted = [change for change in found if change.key.kind != contents.KIND]
        more = now - found[-1].revision if len(found) >= _MOST_CHANGES else 0
        return now, len(counted) + more, sum(change.deleted for change in counted)

    return read
