"""Builds garbage collection for the metadata service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_metadata.adapters.owners import BusOwners
from hythe_metadata.gc.cycle import Collector
from hythe_metadata.gc.pace import Thresholds
from hythe_metadata.gc.scheduler import Scheduler
from hythe_metadata.gc_figures import GcFigures
from hythe_metadata.gc_handlers import GcHandlers
from hythe_metadata.lease_clock import LeaseClock, StepWatch
from hythe_metadata.records import RecordStore


@asynccontextmanager
async def collecting(
    process: Process, service: Service, store: RecordStore, clock: LeaseClock
) -> AsyncIterator[Scheduler]:
    """Add the endpoints to a `service` that hasn't started, and collect while the block lasts.

    `clock` is the one that all leases of this process end by. What is given collects at once for those who ask.
    """
    settings = process.settings
    thresholds = Thresholds(settings.gc_mutations, settings.gc_deletions, settings.gc_interval_s, settings.gc_pause)
    owners = BusOwners(process.bus)
    collector = Collector(store, owners, clock, StepWatch(), process.instance)
    scheduler = Scheduler(store, collector.collect, thresholds, GcFigures(process.metrics.registry).noted)
    store.on_change(scheduler.changed)
    GcHandlers(store, owners, collector, scheduler).register(service)
    running = asyncio.create_task(scheduler.run(), name="metadata-gc")
    try:
        yield scheduler
    finally:
        running.cancel()
        await asyncio.wait([running])
