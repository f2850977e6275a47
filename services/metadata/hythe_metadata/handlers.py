"""Subject → store → reply."""

from __future__ import annotations

from hythe import tracing
from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.ports import metadata as records
from hythe.ports.metadata import Origin, Store
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
    ImageGet,
    ImageList,
    ImagePage,
    ImagePut,
    ImageRecord,
    ImageRemove,
)


class Handlers:
    """The endpoints of the metadata service."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("container", "begin", ContainerBegin, self.container_begin, scope="any")
        service.unary("container", "finish", ContainerFinish, self.container_finish, scope="any")
        service.unary("container", "desire", ContainerDesire, self.container_desire, scope="any")
        service.unary("container", "get", ContainerGet, self.container_get, scope="any")
        service.unary("container", "list", ContainerList, self.container_list, scope="any")
        service.unary("image", "put", ImagePut, self.image_put, scope="any")
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
        )
        return container_message(await self._store.begin(_origin(context), wish))

    async def container_finish(self, context: Context, request: ContainerFinish) -> ContainerFinished:
        """``container.finish``."""
        record = await self._store.finish(_origin(context), request.id, request.outcome)
        return ContainerFinished(record=container_message(record) if record else None)

    async def container_desire(self, context: Context, request: ContainerDesire) -> ContainerRecord:
        """``container.desire``."""
        return container_message(await self._store.desire(_origin(context), request.id, request.desired))

    async def container_get(self, context: Context, request: ContainerGet) -> ContainerRecord:
        """``container.get``."""
        return container_message(await self._store.container(context.namespace, request.key))

    async def container_list(self, context: Context, request: ContainerList) -> ContainerPage:
        """``container.list``."""
        page = await self._store.containers(context.namespace, request.after, request.limit)
        return ContainerPage(records=[container_message(record) for record in page.records], next=page.next)

    async def image_put(self, context: Context, request: ImagePut) -> ImageRecord:
        """``image.put``."""
        wish = records.ImageWish(
            reference=request.reference,
            digest=request.digest,
            media_type=request.media_type,
            size_bytes=request.size_bytes,
            if_revision=request.if_revision,
        )
        return image_message(await self._store.put_image(_origin(context), wish))

    async def image_get(self, context: Context, request: ImageGet) -> ImageRecord:
        """``image.get``."""
        return image_message(await self._store.image(context.namespace, request.reference))

    async def image_list(self, context: Context, request: ImageList) -> ImagePage:
        """``image.list``."""
        page = await self._store.images(context.namespace, request.after, request.limit)
        return ImagePage(images=[image_message(record) for record in page.records], next=page.next)

    async def image_remove(self, context: Context, request: ImageRemove) -> Empty:
        """``image.remove``."""
        await self._store.remove_image(_origin(context), request.reference, request.if_revision)
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
    )


def _origin(context: Context) -> Origin:
    return Origin(context.namespace, context.asker.caller or context.caller, context.request_id, tracing.trace_id())
