"""The records of image names and of the containers that use images, asked for at the metadata service over the bus."""

from __future__ import annotations

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import parse_digest
from hythe.errors import NotFound
from hythe.oci import Descriptor
from hythe.reference import Reference
from hythe.wire.base import Empty
from hythe.wire.metadata import (
    ContainerList,
    ContainerPage,
    ImageGet,
    ImageList,
    ImagePage,
    ImagePut,
    ImageRecord,
    ImageRemove,
)
from hythe_distribution.names import PAGE, ContainerUse, NamedImage, NamePage


class MetadataNames:
    """A body of `hythe_distribution.names.NameRecords`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, namespace: str, reference: Reference) -> NamedImage | None:
        """See `hythe_distribution.names.NameRecords.get`."""
        subject = self._subject(namespace, "image", "get")
        try:
            return _name(namespace, await self._bus.call(subject, ImageGet(reference=str(reference)), ImageRecord))
        except NotFound:
            return None

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int | None, lease: str = ""
    ) -> NamedImage:
        """See `hythe_distribution.names.NameRecords.put`."""
        request = ImagePut(
            reference=str(reference),
            digest=str(target.digest),
            media_type=target.media_type,
            size_bytes=target.size_bytes,
            if_revision=if_revision,
            lease=lease,
        )
        return _name(namespace, await self._bus.call(self._subject(namespace, "image", "put"), request, ImageRecord))

    async def remove(self, namespace: str, reference: str, if_revision: int) -> None:
        """See `hythe_distribution.names.NameRecords.remove`."""
        request = ImageRemove(reference=reference, if_revision=if_revision)
        await self._bus.call(self._subject(namespace, "image", "remove"), request, Empty)

    async def page(self, namespace: str, after: str, limit: int) -> NamePage:
        """See `hythe_distribution.names.NameRecords.page`."""
        subject = self._subject(namespace, "image", "list")
        page = await self._bus.call(subject, ImageList(after=after, limit=limit), ImagePage)
        return NamePage(tuple(_name(namespace, record) for record in page.images), page.next)

    async def containers(self, namespace: str) -> tuple[ContainerUse, ...]:
        """See `hythe_distribution.names.NameRecords.containers`."""
        subject = self._subject(namespace, "container", "list")
        uses: list[ContainerUse] = []
        after = ""
        while True:
            page = await self._bus.call(subject, ContainerList(after=after, limit=PAGE), ContainerPage)
            for record in page.records:
                if record.image.digest is not None:
                    uses.append(ContainerUse(record.id, record.name, parse_digest(record.image.digest)))
            if not page.next:
                return tuple(uses)
            after = page.next

    def _subject(self, namespace: str, noun: str, verb: str) -> str:
        return subjects.rpc(namespace, self._bus.key_name, "metadata", noun, verb)


def _name(namespace: str, record: ImageRecord) -> NamedImage:
    return NamedImage(
        record.namespace or namespace,
        record.reference,
        Descriptor(record.media_type, parse_digest(record.digest), record.size_bytes),
        record.revision,
        record.created_at,
        record.updated_at,
    )
