"""The names of images, asked for at the metadata service over the bus."""

from __future__ import annotations

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import parse_digest
from hythe.errors import NotFound
from hythe.oci import Descriptor
from hythe.reference import Reference
from hythe.wire.base import Empty
from hythe.wire.metadata import ImageGet, ImageList, ImagePage, ImagePut, ImageRecord, ImageRemove
from hythe_distribution.pull import NameRecord


class MetadataNames:
    """A body of `hythe_distribution.pull.ImageNames`, and the plain questions that handlers pass on."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, namespace: str, reference: Reference) -> NameRecord:
        """See `hythe_distribution.pull.ImageNames.get`."""
        try:
            record = await self._bus.call(
                self._subject(namespace, "get"), ImageGet(reference=str(reference)), ImageRecord
            )
        except NotFound:
            return NameRecord(0, None)
        return NameRecord(record.revision, parse_digest(record.digest))

    async def put(self, namespace: str, reference: Reference, target: Descriptor, if_revision: int) -> None:
        """See `hythe_distribution.pull.ImageNames.put`."""
        request = ImagePut(
            reference=str(reference),
            digest=str(target.digest),
            media_type=target.media_type,
            size_bytes=target.size_bytes,
            if_revision=if_revision,
        )
        await self._bus.call(self._subject(namespace, "put"), request, ImageRecord)

    async def list(self, namespace: str, after: str, limit: int) -> ImagePage:
        """Return one page of the records of a namespace.

        Raises:
            Unavailable: metadata is away.
        """
        return await self._bus.call(self._subject(namespace, "list"), ImageList(after=after, limit=limit), ImagePage)

    async def remove(self, namespace: str, reference: Reference) -> None:
        """Forget a name.

        Raises:
            NotFound: there is no such name.
            Unavailable: metadata is away.
        """
        await self._bus.call(self._subject(namespace, "remove"), ImageRemove(reference=str(reference)), Empty)

    def _subject(self, namespace: str, verb: str) -> str:
        return subjects.rpc(namespace, self._bus.key_name, "metadata", "image", verb)
