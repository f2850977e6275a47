"""Builds the agent; the only module that names its concrete classes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from hythe import subjects
from hythe.bus.service import Service
from hythe.process_runner import Process
from hythe_runtime.agent.adapters import programs
from hythe_runtime.agent.adapters.attach import ConmonAttacher
from hythe_runtime.agent.adapters.bundle_service import BusBundleService
from hythe_runtime.agent.adapters.cgroup import KernelCgroups
from hythe_runtime.agent.adapters.conmon import Conmon
from hythe_runtime.agent.adapters.copier import ProcessCopier
from hythe_runtime.agent.adapters.files import AgentFiles
from hythe_runtime.agent.adapters.inotify import Watches
from hythe_runtime.agent.adapters.mounts import KernelMounts
from hythe_runtime.agent.adapters.publishing import BusEventStore, BusIoTransport, BusOutlet
from hythe_runtime.agent.adapters.registry import BusRegistry, ensure_root_id
from hythe_runtime.agent.adapters.runc import Runc
from hythe_runtime.agent.adoption import Adoption
from hythe_runtime.agent.book import Book
from hythe_runtime.agent.cleanup import Cleaner
from hythe_runtime.agent.copies import Copies
from hythe_runtime.agent.copy_handlers import CopyHandlers
from hythe_runtime.agent.executor import Executor
from hythe_runtime.agent.figures import Figures
from hythe_runtime.agent.handlers import Handlers, IoHandlers
from hythe_runtime.agent.outbox import Outbox
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.places import Places, cgroup_of_host
from hythe_runtime.agent.registering import Registering
from hythe_runtime.agent.status import Board
from hythe_runtime.agent.stdin import Inputs
from hythe_runtime.agent.supervisor import Supervisor

log = logging.getLogger(__name__)

THREADS = 12


@asynccontextmanager
async def build(process: Process) -> AsyncIterator[None]:
    """Run the agent while the block lasts; containers go on when it ends."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="agent"))
    programs.raise_descriptor_limit()
    settings, bus = process.settings, process.bus
    host, instance = settings.host, process.instance
    places = Places(
        process.directory,
        settings.state,
        settings.root / "bundle" / "bundles",
        cgroup_of_host(settings.cgroup_parent, host),
    )
    root_id = await asyncio.to_thread(ensure_root_id, process.directory)
    book = Book(places.journal)
    await book.open()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, book.close)
        runtime, cgroups, mounts = Runc(places.runc), KernelCgroups(), KernelMounts(settings.root)
        stack.push_async_callback(asyncio.to_thread, cgroups.remove_empty, *places.cgroups)
        files = AgentFiles(places, settings.disk_reserve_bytes)
        monitors, bundles = Conmon(places, cgroups, runtime), BusBundleService(bus, host)
        transport, watches = BusIoTransport(bus, host), Watches()
        stack.callback(watches.close)
        outlet = BusOutlet(bus, host, instance)
        board = Board(book.ledger, outlet)
        outputs, inputs = Outputs(transport, watches), Inputs(transport)
        stack.push_async_callback(outputs.close)
        stack.push_async_callback(inputs.close)
        cleaner = Cleaner(places, runtime, cgroups, mounts, files, bundles)
        executor = Executor(book, places, bundles, monitors, runtime, mounts, files, ConmonAttacher(), inputs, cleaner)
        supervisor = Supervisor(book, board, places, executor, runtime, files, outputs)
        copies = Copies(supervisor.find, places, ProcessCopier(), transport, outputs, inputs, files)
        stack.push_async_callback(copies.close)
        cleaner.before_clearing(copies.end)
        outbox = Outbox(BusEventStore(bus, host), book.confirm, book.ledger.owed.values())
        book.on_owed(outbox.offer)
        Figures(process.metrics.registry, board, book, outbox, outputs)

        adoption = Adoption(book, places, monitors, runtime, mounts, files, executor, cleaner, supervisor)
        stack.push_async_callback(supervisor.close)
        await adoption.run()
        registering = Registering(BusRegistry(bus, host, instance, root_id), process.failure.report)
        for work in (outlet.run, lambda: outlet.beat(board), registering.run):
            stack.push_async_callback(_cancel, asyncio.create_task(_for_ever(work)))
        outbox.start()
        stack.push_async_callback(outbox.stop)
        for back in (outbox.bus_is_back, outputs.bus_is_back, inputs.bus_is_back, registering.bus_is_back):
            bus.on_reconnect(back)
        io = IoHandlers(outputs, inputs)
        for stream, callback in (("credit", io.credit), ("stdin", io.stdin)):
            subscription = await bus.subscribe(subjects.io_to_host(host, stream), callback)
            stack.push_async_callback(subscription.unsubscribe)
        service = Service(process, "agent")
        Handlers(supervisor, host, instance).register(service)
        CopyHandlers(copies).register(service)
        await service.start()
        stack.push_async_callback(service.stop)
        yield


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:  # the periodic loop: a host that goes silent for a fault in one message would be worse
            log.exception("%s failed and goes on", work)
            await asyncio.sleep(1)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
