"""Builds the runtime service; the only module that names its concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_runtime.controller.adapters.file_systems import FileSystems
from hythe_runtime.controller.adapters.hosts import Agents, Images
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.copy_handlers import CopyHandlers
from hythe_runtime.controller.copying import Copying
from hythe_runtime.controller.handlers import Handlers
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.image_handlers import ImageHandlers
from hythe_runtime.controller.images_of import ContainerImages
from hythe_runtime.controller.listing import Listing
from hythe_runtime.controller.manage import Management
from hythe_runtime.controller.pull import Pulls
from hythe_runtime.controller.run import Runs
from hythe_runtime.controller.settling import Settling


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the service while the block lasts."""
    bus = process.bus
    metadata, agents, images = Metadata(bus), Agents(bus), Images(bus)
    hosts = Hosts(bus, agents)
    settling = Settling(metadata, hosts)
    service = Service(process, "runtime")
    Handlers(
        Runs(metadata, agents, images, hosts, settling),
        Pulls(images, process.settings.host),
        Listing(metadata, hosts),
        Management(metadata, agents, hosts, settling),
    ).register(service)
    ImageHandlers(ContainerImages(metadata, FileSystems(bus), hosts)).register(service)
    CopyHandlers(Copying(metadata, agents, hosts)).register(service)
    await hosts.start()
    await service.start()
    settling.start()
    try:
        yield
    finally:
        settling.stop()
        await service.stop()
        await hosts.stop()
