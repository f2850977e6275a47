"""Builds the metadata service; the only module that names its concrete classes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hythe.bus.event_stream import BusEventStream
from hythe.bus.service import Service
from hythe.outbox import Outbox
from hythe.process_runner import Process
from hythe_metadata.adapters.beats import listen
from hythe_metadata.adapters.sqlite_store import SqliteStore
from hythe_metadata.adapters.store_file import STORE_FILE
from hythe_metadata.adapters.store_url import SqlitePlace, read_url
from hythe_metadata.figures import Figures
from hythe_metadata.handlers import Handlers
from hythe_metadata.hosts_seen import HostsSeen
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.lease_handlers import LeaseHandlers
from hythe_metadata.record_handlers import HostHandlers, IntentHandlers, NamespaceHandlers
from hythe_metadata.records import RecordStore
from hythe_metadata.wiring_gc import collecting

_log = logging.getLogger(__name__)


def open_store(
    url: str,
    default: Path,
    observe: Callable[[int, float], None] = lambda changes, seconds: None,
    *,
    allow_relaxed: bool = False,
) -> RecordStore:
    """Open the store that `url` (HYTHE_METADATA_URL) names; the file `default` if it is empty. Blocks until it is checked.

    Raises:
        InvalidArgument: `url` is none.
        HytheError: as the body says.
    """
    place = read_url(url, default)
    if isinstance(place, SqlitePlace):
        return SqliteStore(place.path, observe)
    from hythe_metadata.adapters.redis_store import RedisStore  # redis takes time and memory that SQLite has no use for

    return RedisStore(place, observe, allow_relaxed=allow_relaxed)


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block lasts."""
    figures = Figures(process.metrics.registry)
    settings = process.settings
    store = await asyncio.to_thread(
        open_store,
        settings.metadata_url,
        process.directory / STORE_FILE,
        figures.committed,
        allow_relaxed=settings.metadata_allow_relaxed,
    )
    _log.info("metadata store is open", extra={"store_id": store.store_id, "era": store.era})
    outbox = Outbox(store, BusEventStream(process.bus, store.store_id, host=""))
    store.on_change(outbox.wake)
    store.on_turn(outbox.doubt)
    process.bus.on_reconnect(outbox.wake)
    service = Service(process, "metadata")
    leases = LeaseClock()
    process.bus.on_reconnect(leases.begin_anew)
    seen = HostsSeen()
    Handlers(store, leases).register(service)
    NamespaceHandlers(store).register(service)
    HostHandlers(store, seen).register(service)
    IntentHandlers(store).register(service)
    await listen(process.bus, seen)
    sending = asyncio.create_task(outbox.run(), name="metadata-outbox")
    ticking = asyncio.create_task(leases.keep_alive(), name="metadata-alive")
    try:
        async with collecting(process, service, store, leases) as collector:
            LeaseHandlers(store, leases, collector.collect).register(service)
            await service.start()
            try:
                yield
            finally:
                await service.stop()
    finally:
        for task in (sending, ticking):
            task.cancel()
        await asyncio.wait([sending, ticking])
        await store.close()
