"""Which concrete classes make up the bundle service; the only module that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.event_stream import sending
from hythe.bus.leases import BusLeases
from hythe.bus.service import Service
from hythe.holding import Holder
from hythe.oci import Platform, default_platform
from hythe.ports.snapshots import Snapshotter
from hythe.process_runner import Process
from hythe_bundle.adapters import host
from hythe_bundle.adapters.bundle_directories import BundleDirectories
from hythe_bundle.adapters.bundle_ledger import BundleLedger
from hythe_bundle.adapters.bus_blobs import BusBlobs
from hythe_bundle.adapters.bus_store import BusStore
from hythe_bundle.adapters.carrying import CarryingWorker
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.differ_worker import WorkerDiffer
from hythe_bundle.adapters.event_source import SnapshotEvents
from hythe_bundle.adapters.foreign_disk import LocalForeignDisk
from hythe_bundle.adapters.image_cache import ImageCache
from hythe_bundle.adapters.local_ground import LocalGround
from hythe_bundle.adapters.local_host import LocalHost
from hythe_bundle.adapters.native import NativeSnapshotter
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from hythe_bundle.adapters.snapshot_nodes import SnapshotNodes
from hythe_bundle.adapters.store_trust import DatabaseTrust
from hythe_bundle.adapters.volume_copier import VolumeCopier
from hythe_bundle.adapters.volume_directories import VolumeDirectories
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.applier import Limits
from hythe_bundle.bundle import Bundles
from hythe_bundle.bundle_handlers import BundleHandlers
from hythe_bundle.collecting import Collector
from hythe_bundle.committing import Committer
from hythe_bundle.comparing import Comparer
from hythe_bundle.content import Blobs
from hythe_bundle.describing import Descriptions
from hythe_bundle.diff_handlers import DiffHandlers
from hythe_bundle.directories import Directories
from hythe_bundle.disk_report import DiskReport
from hythe_bundle.figures import PrometheusFigures
from hythe_bundle.gc_handlers import GcHandlers
from hythe_bundle.handlers import Handlers
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.known_bundles import KnownBundles
from hythe_bundle.making import Making
from hythe_bundle.packing import Packer
from hythe_bundle.snapshot_handlers import SnapshotHandlers
from hythe_bundle.storing import Store
from hythe_bundle.unpacker import Unpacker
from hythe_bundle.user_snapshots import UserSnapshots
from hythe_bundle.volume_handlers import VolumeHandlers
from hythe_bundle.volume_keeping import Volumes

SNAPSHOTTERS = {"overlayfs": OverlaySnapshotter, "native": NativeSnapshotter}


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block runs; leaving it stops unpacking and removes what isn't committed."""
    root, reserve_bytes = process.directory, process.settings.disk_reserve_bytes
    platform = default_platform()
    room = host.DiskRoom(root, reserve_bytes)
    database = Database(root / "snapshots.db")
    snapshots = SNAPSHOTTERS[process.settings.snapshotter](root, database, sync_layers=process.settings.sync_layers)
    blobs = BusBlobs(process.bus, process.settings.host, root)
    images = ImageCache(database)
    unpacker = Unpacker(
        snapshots,
        WorkerApplier(root),
        blobs,
        images,
        room,
        Limits(reserve_bytes=reserve_bytes),
        PrometheusFigures(process.metrics.registry),
    )
    files, facts = BundleDirectories(root), ImageFacts(snapshots)
    copier = VolumeCopier(root, reserve_bytes)
    volumes = Volumes(VolumeDirectories(root), copier, snapshots, room, records_lost=database.fresh)
    descriptions = Descriptions(facts, LocalHost(platform), volumes, LocalForeignDisk())
    bundles = Bundles(snapshots, unpacker, descriptions, files, room, platform, volumes)
    await bundles.recover()
    service = Service(process, "bundle", snapshots.uses.request)
    Handlers(bundles, unpacker, platform).register(service)
    VolumeHandlers(volumes, process.settings.host).register(service)
    store, holder = BusStore(process.bus, process.settings.host), Holder(BusLeases(process.bus))
    carried = await _carried_bundles(
        process, database, snapshots, unpacker, blobs, store, holder, bundles, descriptions, platform
    )
    carried.register(service)
    SnapshotHandlers(UserSnapshots(snapshots)).register(service)
    comparer = Comparer(snapshots, WorkerDiffer(root), store)
    committer = Committer(comparer, store, images, platform)
    DiffHandlers(comparer, committer, store, process.settings.host, holder).register(service)
    inner, trust = SnapshotNodes(database, snapshots), DatabaseTrust(database)
    collector = Collector(snapshots, inner, snapshots.uses, trust, process.instance)
    report = DiskReport(snapshots, collector, volumes)
    GcHandlers(collector, report, process.instance).register(service)
    events = SnapshotEvents(database)
    try:
        async with sending(events, database.on_change, process.bus, events.id, process.settings.host, in_order=True):
            try:
                await service.start()
                yield
            finally:
                await service.stop()
                await holder.close()
    finally:
        await volumes.close()
        await snapshots.close()
        await asyncio.to_thread(database.close)


async def _carried_bundles(
    process: Process,
    database: Database,
    snapshots: Snapshotter,
    unpacker: Unpacker,
    blobs: Blobs,
    store: Store,
    holder: Holder,
    bundles: Bundles,
    descriptions: Descriptions,
    platform: Platform,
) -> BundleHandlers:
    """Return the endpoints of carried bundles, after what a crash left unfinished was removed."""
    settings = process.settings
    ledger, ground = BundleLedger(database), LocalGround(settings.root)
    await ledger.open()
    making = Making(ledger, ground)
    await making.recover()
    carrier, disk = CarryingWorker(process.directory, settings.disk_reserve_bytes), LocalForeignDisk()
    return BundleHandlers(
        Directories(
            snapshots,
            unpacker,
            blobs,
            descriptions,
            making,
            ground,
            carrier,
            disk,
            platform,
            ground.own_root,
        ),
        KnownBundles(bundles, making, ledger, ground, disk),
        Packer(snapshots, bundles, making, ground, carrier, store, disk, ground.own_root),
        holder,
    )
