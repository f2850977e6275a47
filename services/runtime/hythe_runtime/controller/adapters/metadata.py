"""Metadata as runtime uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.wire.container import ContainerRecord
from hythe.wire.metadata import (
    ContainerBegin,
    ContainerDesire,
    ContainerFinish,
    ContainerFinished,
    ContainerGet,
    ContainerList,
    ContainerPage,
)


class Metadata:
    """Requests to the metadata service; each is one round trip. Errors as in `hythe.wire.metadata`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def _subject(self, namespace: str, verb: str) -> str:
        return subjects.rpc(namespace, self._bus.key_name, "metadata", "container", verb)

    async def begin(self, namespace: str, request: ContainerBegin) -> ContainerRecord:
        """Reserve name, record and lease of a container."""
        return await self._bus.call(self._subject(namespace, "begin"), request, ContainerRecord, request_id=request.id)

    async def finish(
        self, namespace: str, container_id: str, outcome: Literal["created", "removing", "absent"]
    ) -> None:
        """Settle a record."""
        request = ContainerFinish(id=container_id, outcome=outcome)
        await self._bus.call(self._subject(namespace, "finish"), request, ContainerFinished)

    async def desire(
        self, namespace: str, container_id: str, desired: Literal["running", "stopped", "removed"]
    ) -> ContainerRecord:
        """Set the desired state and so raise the epoch."""
        request = ContainerDesire(id=container_id, desired=desired)
        return await self._bus.call(self._subject(namespace, "desire"), request, ContainerRecord)

    async def get(self, namespace: str, key: str) -> ContainerRecord:
        """Return the record of an id, a name or a unique prefix."""
        return await self._bus.call(self._subject(namespace, "get"), ContainerGet(key=key), ContainerRecord)

    async def records(self, namespace: str) -> AsyncIterator[ContainerRecord]:
        """Yield all records of `namespace`; of all namespaces when it is empty."""
        after = ""
        while True:
            page = await self._bus.call(self._subject(namespace, "list"), ContainerList(after=after), ContainerPage)
            for record in page.records:
                yield record
            if not page.next:
                return
            after = page.next
