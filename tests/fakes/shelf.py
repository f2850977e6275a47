"""Stands for the distribution service where bundle puts blobs: a directory that `tests.fakes.blobs` reads from."""

from __future__ import annotations

import asyncio
import os

from hythe.digest import digest_of
from hythe.errors import HytheError
from hythe.oci import Descriptor
from tests.fakes.blobs import LocalBlobs


class LocalShelf:
    """`hythe_bundle.packing.Shelf` in front of blobs in a directory.

    Attributes:
        names: what each name points to.
        failure: what keeping a stream raises after its first piece.
    """

    def __init__(self, blobs: LocalBlobs) -> None:
        self._blobs = blobs
        self.names: dict[str, Descriptor] = {}
        self.failure: HytheError | None = None

    async def keep(self, namespace: str, media_type: str, data: bytes) -> Descriptor:
        """See `Shelf.keep`."""
        digest = digest_of(data)
        self._blobs.damage(str(digest), data)
        return Descriptor(media_type, digest, len(data))

    async def keep_stream(self, namespace: str, media_type: str, reader: int) -> Descriptor:
        """See `Shelf.keep_stream`."""
        data = await asyncio.to_thread(os.read, reader, 1 << 20)
        if self.failure is not None:
            raise self.failure
        while more := await asyncio.to_thread(os.read, reader, 1 << 20):
            data += more
        return await self.keep(namespace, media_type, data)

    async def register(self, namespace: str, reference: str, target: Descriptor) -> None:
        """See `Shelf.register`."""
        self.names[reference] = target
