"""Builds the metadata service; the only module that names its concrete classes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from hythe.bus.event_stream import sending
from hythe.bus.service import Service
from hythe.process import DirectoryLock
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


@contextmanager
def _alone(url: str, own: Path) -> Iterator[None]:
    """Hold the directory of a store's file while the block lasts, if it isn't in `own`, which this process holds already.

    Raises:
        FailedPrecondition: another process holds it.
    """
    place = read_url(url, own / STORE_FILE)
    if isinstance(place, SqlitePlace) and place.path.parent.resolve() != own.resolve():
        lock = DirectoryLock(place.path.parent)
        try:
            yield
        finally:
            lock.release()
    else:
        yield


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block lasts."""
    with _alone(process.settings.metadata_url, process.directory):
        async with _serving(process):
            yield


@asynccontextmanager
async def _serving(process: Process) -> AsyncIterator[None]:
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
    service = Service(process, "metadata")
    leases = LeaseClock()
    process.bus.on_reconnect(leases.begin_anew)
    seen = HostsSeen()
    Handlers(store, leases).register(service)
    NamespaceHandlers(store).register(service)
    HostHandlers(store, seen).register(service)
    IntentHandlers(store).register(service)
    await listen(process.bus, seen)
    ticking = asyncio.create_task(leases.keep_alive(), name="metadata-alive")
    try:
        async with (
            sending(store, store.on_change, process.bus, store.store_id, host="") as outbox,
            collecting(process, service, store, leases) as collector,
        ):
            store.on_turn(outbox.doubt)
            LeaseHandlers(store, leases, collector.collect).register(service)
            try:
                await service.start()
                yield
            finally:
                await service.stop()
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
        await store.close()
