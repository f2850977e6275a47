"""Settles records that disagree with their host: after each full list of a host, and every 30 s."""

from __future__ import annotations

import asyncio
import logging

from hythe.errors import HytheError
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.settle import Intent, plan

log = logging.getLogger(__name__)

INTERVAL_S = 30.0


class Settling:
    """The periodic loop around `hythe_runtime.controller.settle.plan`."""

    def __init__(self, metadata: Metadata, hosts: Hosts) -> None:
        self._metadata = metadata
        self._hosts = hosts
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        hosts.on_full_list = lambda host: self._wake.set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._for_ever(), name="settle")

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    async def _for_ever(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), INTERVAL_S)
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._settle_all()
            except HytheError as error:
                log.info("records not compared with the hosts now", extra={"cause": str(error)})

    async def _settle_all(self) -> None:
        complete = {host.host: host for host in self._hosts.known() if host.complete}
        intents: dict[str, list[Intent]] = {}
        async for record in self._metadata.records(""):
            intent = Intent(record.namespace, record.id, record.phase == "creating", record.lease_expired)
            intents.setdefault(record.host, []).append(intent)
        for name, host in complete.items():
            for namespace, container_id, outcome in plan(intents.get(name, ()), host.containers, host.gone):
                log.info("settled a record by its host", extra={"id": container_id, "outcome": outcome, "host": name})
                await self._metadata.finish(namespace, container_id, outcome)
