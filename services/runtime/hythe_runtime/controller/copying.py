"""Copies into and out of containers: the container is found, its host's agent does the rest with the caller."""

from __future__ import annotations

from hythe.wire.copy import ContainerCopy, CopyDone, CopyOpen
from hythe_runtime.controller.adapters.hosts import Agents
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.find import find
from hythe_runtime.controller.hosts import Hosts


class Copying:
    """Finds the containers that files are copied into or out of."""

    def __init__(self, metadata: Metadata, agents: Agents, hosts: Hosts) -> None:
        self._metadata = metadata
        self._agents = agents
        self._hosts = hosts

    async def copy(self, namespace: str, request: ContainerCopy) -> CopyDone:
        """Have the archive sent over the caller's io channel, or taken from it."""
        found = await find(self._metadata, self._hosts, namespace, request.key)
        order = CopyOpen(id=found.id, **request.model_dump(exclude={"key"}))
        return await self._agents.copy(namespace, found.host, order)
