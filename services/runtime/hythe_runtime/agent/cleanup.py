"""Takes away what a container has on the host. Every step may be done again, and finds nothing to do then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hythe import failpoints, tracing
from hythe.errors import HytheError, NotFound
from hythe_runtime.agent.model import Record
from hythe_runtime.agent.places import Places
from hythe_runtime.agent.ports import BundleService, Cgroups, Files, Monitor, Mounts, Runtime

log = logging.getLogger(__name__)

CONMON_ENDS_WITHIN_S = 5.0


class Cleaner:
    """Undoes what the executor did for one run, and removes what a container has besides."""

    def __init__(
        self,
        places: Places,
        runtime: Runtime,
        cgroups: Cgroups,
        mounts: Mounts,
        files: Files,
        bundles: BundleService,
    ) -> None:
        self._places = places
        self._runtime = runtime
        self._cgroups = cgroups
        self._mounts = mounts
        self._files = files
        self._bundles = bundles
        self._guests: list[Callable[[str], Awaitable[None]]] = []

    def before_clearing(self, end_guests: Callable[[str], Awaitable[None]]) -> None:
        """Have `end_guests` end whatever else uses the root of a container, given its id, before that is taken away."""
        self._guests.append(end_guests)

    async def clear_run(self, record: Record, monitor: Monitor | None) -> HytheError | None:
        """Take away processes, cgroups, mounts and the run directory; return what stood in the way, if anything.

        A step that fails does not keep the others from being tried; the run directory stays until all went well.
        """
        failures: list[HytheError] = []
        place = self._places.run_of(record)
        for end_guests in self._guests:
            await end_guests(record.id)
        if monitor is not None:
            await self._try(monitor.settle(), failures)
        with tracing.span("runc delete", container__id=record.id):
            await self._try(self._runtime.delete(record.id), failures)
        failpoints.reach("agent.after_delete")
        if monitor is not None:
            await self._end(monitor)
        with tracing.span("cgroup removal", container__id=record.id):
            await self._try(self._cgroups.remove(place.cgroup), failures)
        with tracing.span("unmount", container__id=record.id):
            if record.bundle is not None:
                await self._try(self._mounts.unmount(record.bundle), failures)
            else:
                directory = self._places.bundle(record.intent.namespace, record.id)
                await self._try(self._mounts.unmount_below(directory), failures)
        if failures:
            return failures[0]
        await self._files.remove_run(place)
        return None

    def oom_kills(self, record: Record) -> int:
        """Return how many processes of a run, not yet cleared away, were killed for want of memory."""
        return self._cgroups.oom_kills(self._places.run_of(record).cgroup)

    async def release(self, record: Record) -> HytheError | None:
        """Give the bundle back; return why that could not be done, if it could not."""
        try:
            await self._bundles.release(record.intent.namespace, record.id)
        except NotFound:
            return None
        except HytheError as error:
            return error
        return None

    async def remove_logs(self, record: Record) -> None:
        """Remove a container's output."""
        await self._files.remove_logs(record.intent.namespace, record.id)

    async def _end(self, monitor: Monitor) -> None:
        """conmon ends by itself when its container is gone."""
        try:
            async with asyncio.timeout(CONMON_ENDS_WITHIN_S):
                await monitor.ended()
        except TimeoutError:
            await monitor.kill()
        monitor.close()

    async def _try(self, step: Awaitable[None], failures: list[HytheError]) -> None:
        try:
            await step
        except HytheError as error:
            log.warning("a step of a clean-up failed", extra={"cause": f"{error.message}: {error.cause}"})
            failures.append(error)
