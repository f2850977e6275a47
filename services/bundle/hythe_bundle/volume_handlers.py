"""Requests about volumes: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.wire import volumes as wire
from hythe.wire.base import Empty
from hythe_bundle.volume_keeping import Volumes
from hythe_bundle.volume_names import Volume, has_labels


class VolumeHandlers:
    """The endpoints of the noun ``volume``."""

    def __init__(self, volumes: Volumes, host: str) -> None:
        """`host` is this host's name, for answers."""
        self._volumes = volumes
        self._host = host

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("volume", "create", wire.VolumeCreate, self.create, scope="host")
        service.unary("volume", "inspect", wire.VolumeInspect, self.inspect, scope="host")
        service.unary("volume", "list", wire.VolumeList, self.list_page, scope="host")
        service.unary("volume", "remove", wire.VolumeRemove, self.remove, scope="host")
        service.operation("volume", "prune", wire.VolumePrune, self.prune, scope="host")

    async def create(self, context: Context, request: wire.VolumeCreate) -> wire.VolumeInfo:
        """Answer ``volume.create``."""
        return self._info(await self._volumes.create(context.namespace, request.name, request.labels))

    async def inspect(self, context: Context, request: wire.VolumeInspect) -> wire.VolumeInfo:
        """Answer ``volume.inspect``."""
        return self._info(self._volumes.find(context.namespace, request.name))

    async def list_page(self, context: Context, request: wire.VolumeList) -> wire.VolumePage:
        """Answer ``volume.list``."""
        found = [volume for volume in self._volumes.all_of(context.namespace) if volume.name > request.after]
        page = found[: request.limit]
        following = page[-1].name if len(found) > len(page) else ""
        return wire.VolumePage(volumes=[self._info(volume) for volume in page], next=following)

    async def remove(self, context: Context, request: wire.VolumeRemove) -> Empty:
        """Answer ``volume.remove``."""
        await self._volumes.remove(context.namespace, request.name)
        return Empty()

    async def prune(self, context: Context, request: wire.VolumePrune, progress: Progress) -> wire.VolumesPruned:
        """Answer ``volume.prune``."""

        def wanted(volume: Volume) -> bool:
            return (request.all or volume.anonymous) and has_labels(volume, request.labels)

        names, reclaimed_bytes = await self._volumes.prune(context.namespace, wanted, dry_run=request.dry_run)
        return wire.VolumesPruned(removed=names, reclaimed_bytes=reclaimed_bytes)

    def _info(self, volume: Volume) -> wire.VolumeInfo:
        return wire.VolumeInfo(
            name=volume.name,
            namespace=volume.namespace,
            host=self._host,
            created_at=volume.created_at,
            mountpoint=str(volume.data),
            labels=dict(volume.labels),
            anonymous=volume.anonymous,
            container=volume.container,
            containers=self._volumes.users(volume),
        )
