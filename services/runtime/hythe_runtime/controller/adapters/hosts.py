"""The agent and the bundle service of each host, and distribution, as runtime uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from pydantic import BaseModel

from hythe import subjects
from hythe.bus.calls import Operation
from hythe.bus.connection import Bus
from hythe.wire.agent import (
    AgentList,
    AgentPage,
    ContainerInspect,
    ContainerKill,
    ContainerRemove,
    ContainerRun,
    ContainerStatus,
    ContainerStop,
    LogsEnd,
    LogsOpen,
)
from hythe.wire.base import Empty
from hythe.wire.bundle import ImageUnpack, ImageUnpacked
from hythe.wire.copy import CopyDone, CopyOpen
from hythe.wire.distribution import ImagePull, ImagePulled, LayerProgress, PullProgress


class Agents:
    """Requests to the agent of a host. `begin_before` is the latest begin in the agent's own clock (ARCHITECTURE §3)."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def run(
        self, namespace: str, host: str, request: ContainerRun, begin_before: str
    ) -> AbstractAsyncContextManager[Operation[ContainerStatus, ContainerStatus]]:
        """Create and start a container, and follow it."""
        return self._bus.operate(
            subjects.host_rpc(namespace, host, "agent", "container", "run"),
            request,
            ContainerStatus,
            ContainerStatus,
            request_id=request.id,
            begin_before=begin_before,
        )

    async def stop(self, namespace: str, host: str, request: ContainerStop, begin_before: str) -> ContainerStatus:
        """Stop a container; answers after its end."""
        return await self._operate(namespace, host, "stop", request, begin_before)

    async def remove(self, namespace: str, host: str, request: ContainerRemove, begin_before: str) -> ContainerStatus:
        """Remove a container from its host."""
        return await self._operate(namespace, host, "remove", request, begin_before)

    async def _operate(
        self, namespace: str, host: str, verb: str, request: BaseModel, begin_before: str
    ) -> ContainerStatus:
        subject = subjects.host_rpc(namespace, host, "agent", "container", verb)
        async with self._bus.operate(
            subject, request, ContainerStatus, ContainerStatus, begin_before=begin_before
        ) as operation:
            return await operation.wait()

    async def kill(self, namespace: str, host: str, request: ContainerKill, begin_before: str) -> None:
        """Send a signal to a container's first process."""
        subject = subjects.host_rpc(namespace, host, "agent", "container", "kill")
        await self._bus.call(subject, request, Empty, begin_before=begin_before)

    async def inspect(self, namespace: str, host: str, container_id: str) -> ContainerStatus:
        """Return a container as its agent knows it now."""
        subject = subjects.host_rpc(namespace, host, "agent", "container", "inspect")
        return await self._bus.call(subject, ContainerInspect(id=container_id), ContainerStatus)

    async def logs(self, namespace: str, host: str, request: LogsOpen) -> LogsEnd:
        """Have a container's output sent over an io channel; answers at its end."""
        subject = subjects.host_rpc(namespace, host, "agent", "logs", "open")
        async with self._bus.operate(subject, request, Empty, LogsEnd) as operation:
            return await operation.wait()

    async def copy(self, namespace: str, host: str, request: CopyOpen) -> CopyDone:
        """Have files of a container sent or taken over an io channel; answers at the end."""
        subject = subjects.host_rpc(namespace, host, "agent", "copy", "open")
        async with self._bus.operate(subject, request, Empty, CopyDone) as operation:
            return await operation.wait()

    async def pages(self, host: str) -> AsyncIterator[AgentPage]:
        """Yield the full list of a host, page by page."""
        after = ""
        subject = subjects.host_rpc(subjects.NO_NAMESPACE, host, "agent", "container", "list")
        while True:
            page = await self._bus.call(subject, AgentList(after=after), AgentPage)
            yield page
            if not page.next:
                return
            after = page.next


class Images:
    """Pulling by distribution and unpacking by a host's bundle service."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def pull(
        self, namespace: str, request: ImagePull, request_id: str | None = None
    ) -> AbstractAsyncContextManager[Operation[PullProgress, ImagePulled]]:
        """Bring an image's content to the content store and register its name."""
        subject = subjects.rpc(namespace, self._bus.key_name, "distribution", "image", "pull")
        return self._bus.operate(subject, request, PullProgress, ImagePulled, request_id=request_id)

    def unpack(
        self, namespace: str, host: str, request: ImageUnpack
    ) -> AbstractAsyncContextManager[Operation[LayerProgress, ImageUnpacked]]:
        """Unpack an image's layers on a host, each as soon as it is there."""
        subject = subjects.host_rpc(namespace, host, "bundle", "image", "unpack")
        return self._bus.operate(subject, request, LayerProgress, ImageUnpacked)
