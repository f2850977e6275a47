"""Subject → domain call → reply, for what containers have changed."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire.changes import ChangesTold, ContainerChanges, ContainerCommit, ImageCommitted
from hythe_runtime.controller.images_of import ContainerImages


class ImageHandlers:
    """The endpoints."""

    def __init__(self, images: ContainerImages) -> None:
        self._images = images

    def register(self, service: Service) -> None:
        """Add them to `service`."""
        add = service.operation
        add("container", "changes", ContainerChanges, self.changes, scope="any", abandoned="cancel")
        add("container", "commit", ContainerCommit, self.commit, scope="any", abandoned="cancel")

    async def changes(self, context: Context, request: ContainerChanges, progress: Progress) -> ChangesTold:
        """``container.changes``."""
        return await self._images.changes(context.namespace, request, progress)

    async def commit(self, context: Context, request: ContainerCommit, progress: Progress) -> ImageCommitted:
        """``container.commit``."""
        return await self._images.commit(context.namespace, request, progress)
