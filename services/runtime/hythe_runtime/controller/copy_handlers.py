"""Subject → domain call → reply, for copies."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire.copy import ContainerCopy, CopyDone
from hythe_runtime.controller.copying import Copying


class CopyHandlers:
    """The endpoint of the runtime service for copies."""

    def __init__(self, copying: Copying) -> None:
        self._copying = copying

    def register(self, service: Service) -> None:
        """Add it to `service`."""
        service.operation("container", "copy", ContainerCopy, self.copy, scope="any", abandoned="cancel")

    async def copy(self, context: Context, request: ContainerCopy, progress: Progress) -> CopyDone:
        """``container.copy``."""
        return await self._copying.copy(context.namespace, request)
