"""The life of a service process: settings, logs, figures, spans, directory, bus, signals, readiness."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hythe import durable, logs, settings
from hythe.bus.connection import Bus
from hythe.errors import HytheError
from hythe.identifiers import new_id
from hythe.metrics import Metrics
from hythe.process import DirectoryLock, identify
from hythe.settings import Settings
from hythe.telemetry import Telemetry

log = logging.getLogger(__name__)


class Failure:
    """Why a process must end although nobody asked it to."""

    def __init__(self) -> None:
        self._reported = asyncio.Event()
        self._error: HytheError | None = None

    def report(self, error: HytheError) -> None:
        """Let the process end in good order, with exit code 1 and this error in its log; the first one counts."""
        self._error = self._error or error
        self._reported.set()

    async def wait(self) -> HytheError | None:
        """Return what was reported, once something is."""
        await self._reported.wait()
        return self._error


@dataclass(frozen=True, slots=True)
class Process:
    """What a service gets from its process.

    Attributes:
        directory: ``<root>/<service>``, held by this process alone unless the service keeps nothing.
        instance: random id of this process, new at each start.
        failure: where the service says that it must end.
    """

    settings: Settings
    bus: Bus
    metrics: Metrics
    directory: Path
    instance: str
    pid: int
    failure: Failure = field(default_factory=Failure)


Build = Callable[[Process], AbstractAsyncContextManager[None]]


def serve(service: str, build: Build, *, owns_directory: bool = True) -> None:
    """Run a service until SIGTERM or SIGINT; the exit code is 0 after a clean stop, 1 after a failure.

    When the block of `build` is entered, ``<state>/services/<service>.json`` says so.
    """
    os.umask(0o077)
    try:
        loaded = settings.load()
        logs.configure(service, loaded.log_level)
        sys.exit(asyncio.run(_serve(service, build, loaded, owns_directory)))
    except HytheError as error:
        _log_failure(error)
        sys.exit(1)
    except Exception:  # the process: what nobody foresaw still becomes a line of the log
        log.exception("a fault of hythe-%s", service)
        sys.exit(1)


async def _serve(service: str, build: Build, loaded: Settings, owns_directory: bool) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    directory = loaded.root / service
    lock = DirectoryLock(directory) if owns_directory else None
    metrics = Metrics(service)
    metrics.serve()
    telemetry = Telemetry(service, loaded.host, loaded.otlp_endpoint)
    metrics.spans_dropped.set_function(lambda: telemetry.outbox.dropped)
    bus = await _first(Bus.connect(loaded, service, metrics), stopping.wait())
    if not isinstance(bus, Bus):
        return 0
    telemetry.start(bus.publish)
    process = Process(loaded, bus, metrics, directory, new_id(), os.getpid())
    ready_file = loaded.state / "services" / f"{service}.json"
    code = 0
    try:
        async with build(process):
            _write_ready(ready_file, service, process)
            log.info("ready", extra={"metrics_port": metrics.port, "instance": process.instance})
            said = await _first(bus.wait_closed(), process.failure.wait(), stopping.wait())
            if isinstance(said, str):
                code = 1
                log.error("the bus closed the connection for good", extra={"cause": said})
            elif isinstance(said, HytheError):
                code = 1
                _log_failure(said)
            log.info("stopping")
            ready_file.unlink(missing_ok=True)
    finally:
        await telemetry.stop()
        await bus.close()
        if lock is not None:
            lock.release()
    return code


def _log_failure(error: HytheError) -> None:
    log.error("%s", error.whole, extra={"next_step": error.next_step})


async def _first(*works: Coroutine[Any, Any, object]) -> object:
    """Return the result of the work that ends first; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()


def _write_ready(path: Path, service: str, process: Process) -> None:
    identity = identify(process.pid)
    assert identity is not None
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    content = {
        "service": service,
        "pid": identity.pid,
        "start_ticks": identity.start_ticks,
        "boot_id": identity.boot_id,
        "metrics_port": process.metrics.port,
        "instance": process.instance,
    }
    durable.write_atomic(path, json.dumps(content).encode(), mode=0o644, durable=False)
