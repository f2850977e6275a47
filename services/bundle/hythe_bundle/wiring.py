"""Which concrete classes make up the bundle service; the only module that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.service import Service
from hythe.oci import default_platform
from hythe.process_runner import Process
from hythe_bundle.adapters import host
from hythe_bundle.adapters.bundle_directories import BundleDirectories
from hythe_bundle.adapters.bus_blobs import BusBlobs
from hythe_bundle.adapters.bus_store import BusStore
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.differ_worker import WorkerDiffer
from hythe_bundle.adapters.image_cache import ImageCache
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.applier import Limits
from hythe_bundle.bundle import Bundles
from hythe_bundle.committing import Committer
from hythe_bundle.comparing import Comparer
from hythe_bundle.diff_handlers import DiffHandlers
from hythe_bundle.figures import PrometheusFigures
from hythe_bundle.handlers import Handlers
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.unpacker import Unpacker


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops unpacking and removes what isn't committed."""
    root, reserve_bytes = process.directory, process.settings.disk_reserve_bytes
    platform = default_platform()
    room = host.DiskRoom(root, reserve_bytes)
    database = Database(root / "snapshots.db")
    snapshots = OverlaySnapshotter(root, database)
    images = ImageCache(database)
    unpacker = Unpacker(
        snapshots,
        WorkerApplier(root),
        BusBlobs(process.bus, process.settings.host, root),
        images,
        room,
        Limits(reserve_bytes=reserve_bytes),
        PrometheusFigures(process.metrics.registry),
    )
    files, facts = BundleDirectories(root), ImageFacts(snapshots)
    bundles = Bundles(snapshots, unpacker, facts, files, room, lambda: host.facts(platform), platform)
    await bundles.recover()
    service = Service(process, "bundle")
    Handlers(bundles, unpacker, platform).register(service)
    store = BusStore(process.bus, process.settings.host)
    comparer = Comparer(snapshots, WorkerDiffer(root), store)
    committer = Committer(comparer, store, images, platform)
    DiffHandlers(comparer, committer, store, process.settings.host).register(service)
    await service.start()
    try:
        yield
    finally:
        await service.stop()
        await snapshots.close()
        await asyncio.to_thread(database.close)
