"""Requests about garbage collection: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.errors import HytheError
from hythe.wire import garbage as wire
from hythe_metadata.gc import picture, usage
from hythe_metadata.gc.cycle import Collector, Wish
from hythe_metadata.gc.explaining import Explainer
from hythe_metadata.gc.owners import Owners
from hythe_metadata.gc.picture import Picture
from hythe_metadata.gc.reading import reading
from hythe_metadata.gc.report import Report
from hythe_metadata.gc.scheduler import Scheduler
from hythe_metadata.gc.why import Answer
from hythe_metadata.record_handlers import message
from hythe_metadata.records import RecordStore

log = logging.getLogger(__name__)

DRAWN_S = 10.0
"""So long the pages of one picture are of one state; after that it is drawn anew."""
MOST_DRAWN = 2


class GcHandlers:
    """The endpoints of garbage collection."""

    def __init__(
        self,
        store: RecordStore,
        owners: Owners,
        collector: Collector,
        scheduler: Scheduler,
        drawn_s: float = DRAWN_S,
    ) -> None:
        """Keep a picture for `drawn_s` seconds."""
        self._drawn_s = drawn_s
        self._store = store
        self._owners = owners
        self._collector = collector
        self._scheduler = scheduler
        self._explainer = Explainer(store, owners, collector.ended, scheduler.within_s)
        self._drawn: OrderedDict[tuple[str, str], tuple[float, Picture]] = OrderedDict()

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("gc", "run", wire.GcRun, self.run, scope="any")
        service.unary("gc", "why", wire.GcWhy, self.why, scope="any")
        service.unary("gc", "graph", wire.GraphGet, self.graph, scope="any")
        service.unary("gc", "usage", wire.UsageGet, self.usage, scope="any")

    async def run(self, context: Context, request: wire.GcRun, progress: Progress) -> wire.GcReport:
        """Answer ``gc.run``."""
        return report_message(await self._scheduler.collect(Wish(request.dry_run, request.confirm)))

    async def why(self, context: Context, request: wire.GcWhy) -> wire.GcAnswer:
        """Answer ``gc.why``."""
        await self._learn()
        return _answer_message(await self._explainer.why(context.namespace, request.name, request.kind))

    async def graph(self, context: Context, request: wire.GraphGet) -> wire.GraphPage:
        """Answer ``gc.graph``."""
        drawn = await self._draw(context.namespace, request.name)
        return message(wire.GraphPage, picture.page(drawn, request.after, request.limit))

    async def usage(self, context: Context, request: wire.UsageGet) -> wire.Usage:
        """Answer ``gc.usage``."""
        await self._learn()
        found = await usage.usage(self._store, self._owners, self._collector.ended, images=request.images)
        rows = [message(wire.UsageRow, row.usage, host=row.host) for row in found.rows]
        return message(wire.Usage, found, rows=rows)

    async def _learn(self) -> None:
        """Learn from the owners what they have by now, for the answer to speak of it; what is known already must do otherwise."""
        try:
            await self._scheduler.collect(Wish(dry_run=True))
        except HytheError as error:
            log.warning("answer by what was known: %s", error)

    async def _draw(self, namespace: str, name: str) -> Picture:
        """Return the picture whose pages are being asked for, or a new one."""
        now_s, key = time.monotonic(), (namespace, name)
        self._forget_drawn()
        if key not in self._drawn:
            await self._learn()
            found = await self._store.read(reading(self._collector.ended))
            present = await self._store.read(picture.present_records)
            names = [name, *await self._store.read(picture.ids_of_container(namespace, name))] if name else []
            drawn = await asyncio.to_thread(picture.draw, found, present, namespace, names)
            self._drawn[key] = (now_s, drawn)
            while len(self._drawn) > MOST_DRAWN:
                self._drawn.popitem(last=False)
            asyncio.get_running_loop().call_later(
                self._drawn_s + 0.1, self._forget_drawn
            )  # a large one takes much memory
            return drawn
        return self._drawn[key][1]

    def _forget_drawn(self) -> None:
        now_s = time.monotonic()
        for old in [old for old, (drawn_s, _) in self._drawn.items() if now_s - drawn_s > self._drawn_s]:
            del self._drawn[old]


def report_message(report: Report) -> wire.GcReport:
    """Return the message form of what a collection did."""
    return message(wire.GcReport, report, hosts=[message(wire.GcHostReport, owner) for owner in report.owners])


def _answer_message(answer: Answer) -> wire.GcAnswer:
    paths = [[message(wire.GcStep, step.node, via=step.via) for step in path] for path in answer.paths]
    return message(wire.GcAnswer, answer, paths=paths)
