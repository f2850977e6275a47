"""Subject → decision → reply, for containers and images."""

from __future__ import annotations

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.ports import metadata as records
from hythe.wire.base import Empty, read_reply
from hythe.wire.container import ContainerRecord, ContainerSpec, Epoch, ImageRef
from hythe.wire.metadata import (
    ContainerBegin,
    ContainerDesire,
    ContainerFinish,
    ContainerFinished,
    ContainerGet,
    ContainerList,
    ContainerPage,
    ContainerUpdate,
    ImageGet,
    ImageList,
    ImagePage,
    ImagePut,
    ImageRecord,
    ImageRemove,
    ImageUpdate,
)
from hythe_metadata import container_finding, containers, images
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.record_handlers import origin_of
from hythe_metadata.records import RecordStore


class Handlers:
    """The endpoints about containers and images."""

    def __init__(self, store: RecordStore, leases: LeaseClock) -> None:
        self._store = store
        self._leases = leases

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("container", "begin", ContainerBegin, self.container_begin, scope="any")
        service.unary("container", "finish", ContainerFinish, self.container_finish, scope="any")
        service.unary("container", "desire", ContainerDesire, self.container_desire, scope="any")
        service.unary("container", "update", ContainerUpdate, self.container_update, scope="any")
        service.unary("container", "get", ContainerGet, self.container_get, scope="any")
        service.unary("container", "list", ContainerList, self.container_list, scope="any")
        service.unary("image", "put", ImagePut, self.image_put, scope="any")
        service.unary("image", "update", ImageUpdate, self.image_update, scope="any")
        service.unary("image", "get", ImageGet, self.image_get, scope="any")
        service.unary("image", "list", ImageList, self.image_list, scope="any")
        service.unary("image", "remove", ImageRemove, self.image_remove, scope="any")

    async def container_begin(self, context: Context, request: ContainerBegin) -> ContainerRecord:
        """``container.begin``."""
        wish = records.ContainerWish(
            id=request.id,
            name=request.name,
            reference=request.image.reference,
            digest=request.image.digest,
            host=request.host,
            spec=request.spec.model_dump_json(),
            lease_s=request.lease_s,
            labels=request.spec.labels,
            runtime=request.runtime,
            snapshotter=request.snapshotter,
        )
        return container_message(await self._store.change(containers.begin(origin_of(context), wish, self._leases)))

    async def container_finish(self, context: Context, request: ContainerFinish) -> ContainerFinished:
        """``container.finish``."""
        work = containers.finish(origin_of(context), request.id, request.outcome, self._leases)
        record = await self._store.change(work)
        return ContainerFinished(record=container_message(record) if record else None)

    async def container_desire(self, context: Context, request: ContainerDesire) -> ContainerRecord:
        """``container.desire``."""
        work = containers.desire(origin_of(context), request.id, request.desired, self._leases)
        return container_message(await self._store.change(work))

    async def container_update(self, context: Context, request: ContainerUpdate) -> ContainerRecord:
        """``container.update``."""
        wish = containers.UpdateWish(request.id, request.labels, tuple(request.fields), request.if_revision)
        return container_message(await self._store.change(containers.update(origin_of(context), wish, self._leases)))

    async def container_get(self, context: Context, request: ContainerGet) -> ContainerRecord:
        """``container.get``."""
        return container_message(
            await self._store.read(container_finding.get(context.namespace, request.key, self._leases))
        )

    async def container_list(self, context: Context, request: ContainerList) -> ContainerPage:
        """``container.list``."""
        page = await self._store.read(
            container_finding.list_all(context.namespace, request.after, request.limit, self._leases, request.filters)
        )
        return ContainerPage(records=[container_message(record) for record in page.records], next=page.next)

    async def image_put(self, context: Context, request: ImagePut) -> ImageRecord:
        """``image.put``."""
        wish = records.ImageWish(
            reference=request.reference,
            digest=request.digest,
            media_type=request.media_type,
            size_bytes=request.size_bytes,
            if_revision=request.if_revision,
            lease=request.lease,
            labels=request.labels,
        )
        return image_message(await self._store.change(images.put(origin_of(context), wish)))

    async def image_update(self, context: Context, request: ImageUpdate) -> ImageRecord:
        """``image.update``."""
        wish = images.UpdateWish(
            reference=request.reference,
            labels=request.labels,
            fields=tuple(request.fields),
            if_revision=request.if_revision,
            digest=request.digest or "",
            media_type=request.media_type,
            size_bytes=request.size_bytes,
        )
        return image_message(await self._store.change(images.update(origin_of(context), wish)))

    async def image_get(self, context: Context, request: ImageGet) -> ImageRecord:
        """``image.get``."""
        return image_message(await self._store.read(images.get(context.namespace, request.reference)))

    async def image_list(self, context: Context, request: ImageList) -> ImagePage:
        """``image.list``."""
        page = await self._store.read(images.list_all(context.namespace, request.after, request.limit, request.filters))
        return ImagePage(images=[image_message(record) for record in page.records], next=page.next)

    async def image_remove(self, context: Context, request: ImageRemove) -> Empty:
        """``image.remove``."""
        wish = images.RemoveWish(request.reference, request.if_revision)
        await self._store.change(images.remove(origin_of(context), wish))
        return Empty()


def container_message(record: records.ContainerRecord) -> ContainerRecord:
    """Return the message form of a container's record."""
    return ContainerRecord(
        id=record.id,
        namespace=record.namespace,
        name=record.name,
        image=ImageRef(reference=record.reference, digest=record.digest or None),
        host=record.host,
        spec=read_reply(ContainerSpec, record.spec),
        desired=record.desired,
        phase=record.phase,
        epoch=Epoch(era=record.era, revision=record.epoch_revision),
        revision=record.revision,
        created_at=record.created_at,
        updated_at=record.updated_at or record.created_at,
        labels=dict(record.labels),
        runtime=record.runtime,
        snapshotter=record.snapshotter,
        lease_expired=record.lease_expired,
    )


def image_message(record: records.ImageRecord) -> ImageRecord:
    """Return the message form of an image's record."""
    return ImageRecord(
        namespace=record.namespace,
        reference=record.reference,
        digest=record.digest,
        media_type=record.media_type,
        size_bytes=record.size_bytes,
        revision=record.revision,
        created_at=record.created_at,
        updated_at=record.updated_at,
        labels=dict(record.labels),
    )
