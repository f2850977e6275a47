"""Stop, kill, remove, show and read one container."""

from __future__ import annotations

from hythe.errors import DeadlineExceeded, FailedPrecondition, HytheError, NotFound, Unavailable
from hythe.wire.agent import ContainerKill, ContainerRemove, ContainerStatus, ContainerStop, LogsEnd, LogsOpen
from hythe.wire.container import Epoch
from hythe.wire.runtime import Kill, Listed, Logs, Remove, RunResult, Stop, Target
from hythe_runtime.controller.adapters.hosts import Agents
from hythe_runtime.controller.adapters.metadata import Metadata
from hythe_runtime.controller.find import Found, find
from hythe_runtime.controller.hosts import Hosts
from hythe_runtime.controller.settling import Settling


class Management:
    """Commands to one container; each goes to the agent of its host with the epoch of the intent it comes from."""

    def __init__(self, metadata: Metadata, agents: Agents, hosts: Hosts, settling: Settling) -> None:
        self._metadata = metadata
        self._agents = agents
        self._hosts = hosts
        self._settling = settling

    async def _find(self, namespace: str, key: str) -> Found:
        return await find(self._metadata, self._hosts, namespace, key)

    async def inspect(self, namespace: str, request: Target) -> Listed:
        """Return record and status of a container; the status is asked of its agent, else the last known, marked stale."""
        found = await self._find(namespace, request.key)
        try:
            status = await self._agents.inspect(namespace, found.host, found.id)
        except NotFound:
            return Listed(record=found.record, status=None)
        except (Unavailable, DeadlineExceeded):
            return Listed(record=found.record, status=found.status, stale=True)
        return Listed(record=found.record, status=status)

    async def stop(self, namespace: str, request: Stop) -> RunResult:
        """Stop a container; goes on without metadata, with the last known epoch."""
        found = await self._find(namespace, request.key)
        epoch, warnings = await self._desire_stopped(namespace, found)
        order = ContainerStop(id=found.id, epoch=epoch, timeout_s=request.timeout_s)
        status = await self._agents.stop(namespace, found.host, order, await self._hosts.begin_before(found.host))
        return RunResult(status=status, warnings=warnings)

    async def _desire_stopped(self, namespace: str, found: Found) -> tuple[Epoch, list[str]]:
        if found.record is None:
            return found.epoch, found.warnings
        try:
            record = await self._metadata.desire(namespace, found.id, "stopped")
        except (Unavailable, DeadlineExceeded) as error:
            return found.epoch, [f"the wish to stop was not recorded: {error.message}"]
        return record.epoch, found.warnings

    async def kill(self, namespace: str, request: Kill) -> None:
        """Send a signal."""
        found = await self._find(namespace, request.key)
        order = ContainerKill(id=found.id, epoch=found.epoch, signal=request.signal)
        await self._agents.kill(namespace, found.host, order, await self._hosts.begin_before(found.host))

    async def logs(self, namespace: str, request: Logs) -> LogsEnd:
        """Send a container's output over the caller's io channel."""
        found = await self._find(namespace, request.key)
        order = LogsOpen(
            id=found.id,
            io=request.io,
            follow=request.follow,
            tail_lines=request.tail_lines,
            timestamps=request.timestamps,
        )
        return await self._agents.logs(namespace, found.host, order)

    async def remove(self, namespace: str, request: Remove) -> RunResult:
        """Remove a container from its host, then its record.

        Raises:
            Unavailable: metadata or the host's agent is away; nothing is removed.
            FailedPrecondition: it runs, and `force` is not set; or it is just being made.
        """
        found = await self._find(namespace, request.key)
        if found.away is not None:
            raise found.away
        with self._settling.attended(found.id):
            return await self._remove(namespace, found, force=request.force)

    async def _remove(self, namespace: str, found: Found, *, force: bool) -> RunResult:
        status = await self._remove_on_host(namespace, found, force)
        warnings = found.warnings
        if found.record is not None:
            try:
                await self._metadata.finish(namespace, found.id, "absent")
            except HytheError as error:
                warnings.append(f"the record of {found.record.name} will be deleted later: {error.message}")
        return RunResult(status=status, warnings=warnings)

    async def _remove_on_host(self, namespace: str, found: Found, force: bool) -> ContainerStatus:
        order = ContainerRemove(id=found.id, epoch=found.epoch, force=force)
        try:
            return await self._agents.remove(namespace, found.host, order, await self._hosts.begin_before(found.host))
        except NotFound:
            if found.record is None:
                raise
            record = found.record
            if (
                record.phase == "creating"
                and not record.lease_expired
                and not self._hosts.is_gone(found.host, found.id)
            ):
                raise FailedPrecondition(
                    f"remove {record.name}: it is just being made", next_step="try again when it is there"
                ) from None
            return ContainerStatus(
                id=record.id,
                namespace=namespace,
                name=record.name,
                image=record.image,
                host=record.host,
                status="removed",
            )
        except FailedPrecondition as error:
            error.next_step = error.next_step or f"stop it first, or use `hythe rm -f {found.id[:12]}`"
            raise
