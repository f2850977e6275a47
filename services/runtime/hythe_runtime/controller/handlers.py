"""Subject → domain call → reply."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire.agent import LogsEnd
from hythe.wire.base import Empty
from hythe.wire.distribution import ImagePulled
from hythe.wire.runtime import Kill, List, Listed, ListResult, Logs, Pull, Remove, Run, RunResult, Stop, Target
from hythe_runtime.controller.listing import Listing
from hythe_runtime.controller.manage import Management
from hythe_runtime.controller.pull import Pulls
from hythe_runtime.controller.run import Runs


class Handlers:
    """The endpoints of the runtime service."""

    def __init__(self, runs: Runs, pulls: Pulls, listing: Listing, management: Management) -> None:
        self._runs = runs
        self._pulls = pulls
        self._listing = listing
        self._management = management

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("container", "run", Run, self.run, scope="any")
        service.operation("container", "remove", Remove, self.remove, scope="any")
        service.operation("container", "stop", Stop, self.stop, scope="any")
        service.operation("container", "logs", Logs, self.logs, scope="any", abandoned="cancel")
        service.operation("image", "pull", Pull, self.pull, scope="any", abandoned="cancel")
        service.unary("container", "list", List, self.list, scope="any")
        service.unary("container", "inspect", Target, self.inspect, scope="any")
        service.unary("container", "kill", Kill, self.kill, scope="any")

    async def run(self, context: Context, request: Run, progress: Progress) -> RunResult:
        """``container.run``."""
        return await self._runs.run(context.namespace, request, progress)

    async def remove(self, context: Context, request: Remove, progress: Progress) -> RunResult:
        """``container.remove``."""
        return await self._management.remove(context.namespace, request)

    async def stop(self, context: Context, request: Stop, progress: Progress) -> RunResult:
        """``container.stop``."""
        return await self._management.stop(context.namespace, request)

    async def logs(self, context: Context, request: Logs, progress: Progress) -> LogsEnd:
        """``container.logs``."""
        return await self._management.logs(context.namespace, request)

    async def pull(self, context: Context, request: Pull, progress: Progress) -> ImagePulled:
        """``image.pull``."""
        return await self._pulls.pull(context.namespace, request, progress)

    async def list(self, context: Context, request: List) -> ListResult:
        """``container.list``."""
        return await self._listing.containers(context.namespace, request.all)

    async def inspect(self, context: Context, request: Target) -> Listed:
        """``container.inspect``."""
        return await self._management.inspect(context.namespace, request)

    async def kill(self, context: Context, request: Kill) -> Empty:
        """``container.kill``."""
        await self._management.kill(context.namespace, request)
        return Empty()
