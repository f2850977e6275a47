"""A metadata service that keeps names of images and leases in memory, answering the real messages on a real bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from hythe import clock
from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.errors import Conflict, NotFound
from hythe.wire import leases, metadata
from hythe.wire.base import Empty
from hythe.wire.gc import StoreMark

STORE_ID = "0" * 32


class MetadataDesk:
    """What distribution and bundle ask of metadata.

    Attributes:
        images: records by namespace and reference.
        leases: labels of what each lease keeps, by namespace and id.
        asked: each request as ``noun.verb`` with its message, oldest first.
        before: awaited before a request is answered, with its ``noun.verb``.
        store_revision: how far its store is, as leases tell.
    """

    def __init__(self) -> None:
        self.images: dict[tuple[str, str], metadata.ImageRecord] = {}
        self.leases: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        self.asked: list[tuple[str, BaseModel]] = []
        self.before: Callable[[str], Awaitable[None]] = self._at_once
        self.store_revision = 0
        self._revision = 0

    def register(self, service: Service) -> None:
        """Add all endpoints."""
        service.unary("image", "get", metadata.ImageGet, self.image_get, scope="any")
        service.unary("image", "put", metadata.ImagePut, self.image_put, scope="any")
        service.unary("image", "list", metadata.ImageList, self.image_list, scope="any")
        service.unary("image", "remove", metadata.ImageRemove, self.image_remove, scope="any")
        service.unary("content", "refer", leases.ContentRefer, self.refer, scope="any")
        service.unary("lease", "renew", leases.LeaseRenew, self.renew, scope="any")
        service.unary("lease", "remove", leases.LeaseRemove, self.remove, scope="any")

    def verbs(self) -> list[str]:
        """Return what was asked, oldest first."""
        return [verb for verb, _ in self.asked]

    async def image_get(self, context: Context, request: metadata.ImageGet) -> metadata.ImageRecord:
        """See `hythe.wire.metadata.ImageGet`."""
        await self._note("image.get", request)
        found = self.images.get((context.namespace, request.reference))
        if found is None:
            raise NotFound(f"find image {request.reference}: there is none", details={"kind": "image"})
        return found

    async def image_put(self, context: Context, request: metadata.ImagePut) -> metadata.ImageRecord:
        """See `hythe.wire.metadata.ImagePut`."""
        await self._note("image.put", request)
        key = (context.namespace, request.reference)
        before = self.images.get(key)
        if request.if_revision not in (None, before.revision if before else 0):
            raise Conflict(f"put image {request.reference}: another revision")
        self._revision += 1
        now = clock.now_rfc3339()
        self.images[key] = metadata.ImageRecord(
            namespace=context.namespace,
            reference=request.reference,
            digest=request.digest,
            media_type=request.media_type,
            size_bytes=request.size_bytes,
            revision=self._revision,
            created_at=now,
            updated_at=now,
        )
        self.leases.pop((context.namespace, request.lease), None)
        return self.images[key]

    async def image_list(self, context: Context, request: metadata.ImageList) -> metadata.ImagePage:
        """See `hythe.wire.metadata.ImageList`."""
        await self._note("image.list", request)
        return metadata.ImagePage(
            images=[
                record
                for (place, name), record in sorted(self.images.items())
                if place == context.namespace and name > request.after
            ]
        )

    async def image_remove(self, context: Context, request: metadata.ImageRemove) -> Empty:
        """See `hythe.wire.metadata.ImageRemove`."""
        await self._note("image.remove", request)
        if self.images.pop((context.namespace, request.reference), None) is None:
            raise NotFound(f"find image {request.reference}: there is none", details={"kind": "image"})
        return Empty()

    async def refer(self, context: Context, request: leases.ContentRefer) -> StoreMark:
        """See `hythe.wire.leases.ContentRefer`."""
        await self._note("content.refer", request)
        kept = self.leases.setdefault((context.namespace, request.lease), {})
        for each in request.content:
            kept[each.digest] = {**kept.get(each.digest, {}), **each.labels}
        return StoreMark(store_id=STORE_ID, era=1, revision=self.store_revision)

    async def renew(self, context: Context, request: leases.LeaseRenew) -> Empty:
        """See `hythe.wire.leases.LeaseRenew`."""
        await self._note("lease.renew", request)
        if (context.namespace, request.id) not in self.leases:
            raise NotFound(f"renew lease {request.id}: there is none", details={"kind": "lease"})
        return Empty()

    async def remove(self, context: Context, request: leases.LeaseRemove) -> Empty:
        """See `hythe.wire.leases.LeaseRemove`."""
        await self._note("lease.remove", request)
        self.leases.pop((context.namespace, request.id), None)
        return Empty()

    async def _note(self, verb: str, request: BaseModel) -> None:
        await self.before(verb)
        self.asked.append((verb, request))

    async def _at_once(self, verb: str) -> None:
        """Answer without waiting."""
