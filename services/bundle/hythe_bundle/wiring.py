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
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.image_cache import ImageCache
from hythe_bundle.adapters.native import NativeSnapshotter
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.applier import Limits
from hythe_bundle.bundle import Bundles
from hythe_bundle.figures import PrometheusFigures
from hythe_bundle.handlers import Handlers
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.snapshot_handlers import SnapshotHandlers
from hythe_bundle.unpacker import Unpacker
from hythe_bundle.user_snapshots import UserSnapshots

SNAPSHOTTERS = {"overlayfs": OverlaySnapshotter, "native": NativeSnapshotter}


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops unpacking and removes what isn't committed."""
    root, reserve_bytes = process.directory, process.settings.disk_reserve_bytes
    platform = default_platform()
    room = host.DiskRoom(root, reserve_bytes)
    database = Database(root / "snapshots.db")
    snapshots = SNAPSHOTTERS[process.settings.snapshotter](root, database, sync_layers=process.settings.sync_layers)
    unpacker = Unpacker(
        snapshots,
        WorkerApplier(root),
        BusBlobs(process.bus, process.settings.host, root),
        ImageCache(database),
        room,
        Limits(reserve_bytes=reserve_bytes),
        PrometheusFigures(process.metrics.registry),
    )
    files, facts = BundleDirectories(root), ImageFacts(snapshots)
    bundles = Bundles(snapshots, unpacker, facts, files, room, lambda: host.facts(platform), platform)
    await bundles.recover()
    service = Service(process, "bundle")
    Handlers(bundles, unpacker, platform).register(service)
    SnapshotHandlers(UserSnapshots(snapshots)).register(service)
    await service.start()
    try:
        yield
    finally:
        await service.stop()
        await snapshots.close()
        await asyncio.to_thread(database.close)
