"""The requests about containers and images as methods, for tests that are about a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import (
    ContainerRecord,
    ContainerWish,
    Desired,
    FinishOutcome,
    ImageRecord,
    ImageWish,
    Origin,
    Page,
)
from hythe_metadata import container_finding, containers, images
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.records import RecordStore


class Intent:
    """Works on the records of a store."""

    def __init__(self, store: RecordStore, leases: LeaseClock | None = None) -> None:
        self.store = store
        self.leases = leases or LeaseClock()

    @property
    def store_id(self) -> str:
        """Return the store's id."""
        return self.store.store_id

    @property
    def era(self) -> int:
        """Return the store's era."""
        return self.store.era

    async def begin(self, origin: Origin, wish: ContainerWish) -> ContainerRecord:
        """See `containers.begin`."""
        return await self.store.change(containers.begin(origin, wish, self.leases))

    async def finish(self, origin: Origin, container_id: str, outcome: FinishOutcome) -> ContainerRecord | None:
        """See `containers.finish`."""
        return await self.store.change(containers.finish(origin, container_id, outcome, self.leases))

    async def desire(self, origin: Origin, container_id: str, desired: Desired) -> ContainerRecord:
        """See `containers.desire`."""
        return await self.store.change(containers.desire(origin, container_id, desired, self.leases))

    async def container(self, namespace: str, key: str) -> ContainerRecord:
        """See `container_finding.get`."""
        return await self.store.read(container_finding.get(namespace, key, self.leases))

    async def containers(
        self, namespace: str, after: str, limit: int, filters: Sequence[str] = ()
    ) -> Page[ContainerRecord]:
        """See `container_finding.list_all`."""
        return await self.store.read(container_finding.list_all(namespace, after, limit, self.leases, filters))

    async def put_image(self, origin: Origin, wish: ImageWish) -> ImageRecord:
        """See `images.put`."""
        return await self.store.change(images.put(origin, wish))

    async def image(self, namespace: str, reference: str) -> ImageRecord:
        """See `images.get`."""
        return await self.store.read(images.get(namespace, reference))

    async def images(self, namespace: str, after: str, limit: int, filters: Sequence[str] = ()) -> Page[ImageRecord]:
        """See `images.list_all`."""
        return await self.store.read(images.list_all(namespace, after, limit, filters))

    async def remove_image(self, origin: Origin, reference: str, if_revision: int | None = None) -> None:
        """See `images.remove`."""
        await self.store.change(images.remove(origin, images.RemoveWish(reference, if_revision)))

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `RecordStore.on_change`."""
        self.store.on_change(callback)

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """See `RecordStore.outgoing`; that a namespace came to be with its first record is left out."""
        return [event for event in await self.store.outgoing(after, limit) if event.noun != "namespace"]

    def sent(self, sequences: Sequence[int]) -> None:
        """See `RecordStore.sent`."""
        self.store.sent(sequences)

    async def close(self) -> None:
        """See `RecordStore.close`."""
        await self.store.close()
