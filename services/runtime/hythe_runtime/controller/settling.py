"""Settles records that disagree with their host: after each full list of a host, after a removal, and every 30 s."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hythe.errors import HytheError
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.settle import Intent, plan

log = logging.getLogger(__name__)

INTERVAL_S = 30.0
ATTENDED_AFTER_S = 30.0


class Settling:
    """The periodic loop around `hythe_runtime.controller.settle.plan`."""

    def __init__(self, metadata: Metadata, hosts: Hosts) -> None:
        self._metadata = metadata
        self._hosts = hosts
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attended: dict[str, int] = {}
        self._removed: set[tuple[str, str]] = set()
        self._compare = False
        hosts.on_full_list = self._see_full_list
        hosts.on_removed = self._see_removed

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._for_ever(), name="settle")

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    @contextmanager
    def attended(self, container_id: str) -> Iterator[None]:
        """Leave the record of a container to the block, which settles it itself, also when its host removes it later."""
        self._attended[container_id] = self._attended.get(container_id, 0) + 1
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(ATTENDED_AFTER_S, self._leave, container_id)

    def _leave(self, container_id: str) -> None:
        self._attended[container_id] -= 1
        if not self._attended[container_id]:
            del self._attended[container_id]

    def _see_full_list(self, host: str) -> None:
        self._compare = True
        self._wake.set()

    def _see_removed(self, namespace: str, container_id: str) -> None:
        if container_id not in self._attended:
            self._removed.add((namespace, container_id))
            self._wake.set()

    async def _for_ever(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), INTERVAL_S)
            except TimeoutError:
                self._compare = True
            self._wake.clear()
            try:
                await self._settle_removed()
                if self._compare:
                    self._compare = False
                    await self._settle_all()
            except HytheError as error:
                log.info("records not compared with the hosts now", extra={"cause": str(error)})
            except Exception:  # the periodic loop: the next pass may do better
                log.exception("records could not be compared with the hosts")

    async def _settle_removed(self) -> None:
        """Free the names of containers that their hosts removed by themselves."""
        while self._removed:
            namespace, container_id = self._removed.pop()
            await self._metadata.finish(namespace, container_id, "absent")

    async def _settle_all(self) -> None:
        intents: dict[str, list[Intent]] = {}
        async for record in self._metadata.records(""):
            if record.id in self._attended:
                continue
            intent = Intent(record.namespace, record.id, record.phase == "creating", record.lease_expired)
            intents.setdefault(record.host, []).append(intent)
        for host in self._hosts.known():
            if not host.complete or not host.fresh(time.monotonic()):
                continue  # what a host may have made meanwhile is not known
            for namespace, container_id, outcome in plan(intents.get(host.host, ()), host.containers, host.gone):
                log.info(
                    "settled a record by its host", extra={"id": container_id, "outcome": outcome, "host": host.host}
                )
                await self._metadata.finish(namespace, container_id, outcome)
