"""The names of images in memory, with revisions and conflicts: their records, and what alone a pull needs of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hythe.digest import Digest
from hythe.errors import Conflict, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.oci import Descriptor
from hythe.ports.metadata import ALL_NAMESPACES
from hythe.reference import Reference
from hythe_distribution.claiming import NameRecord
from hythe_distribution.names import ContainerUse, NamedImage, NamePage


class MemoryNames:
    """A body of `hythe_distribution.names.NameRecords`.

    Attributes:
        records: by namespace and reference.
        now: what new records get as their times.
        away: metadata is not running.
        before_change: called before each change, with its verb and reference.
        on_lease: told the namespace and the lease that ends with a name.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], NamedImage] = {}
        self.now = "2026-06-01T00:00:00.000000Z"
        self.away = False
        self.before_change: Callable[[str, str], None] = lambda verb, reference: None
        self.on_lease: Callable[[str, str], None] = lambda namespace, lease: None
        self._containers: list[tuple[str, ContainerUse]] = []
        self._revision = 0

    def names(self, namespace: str = "default") -> dict[str, str]:
        """Return the digest of each name of a namespace."""
        return {name: str(record.digest) for (place, name), record in self.records.items() if place == namespace}

    def use(self, name: str, root: Digest, namespace: str = "default") -> None:
        """Have a container that was made from `root`."""
        self._containers.append((namespace, ContainerUse(new_id(), name, root)))

    def move(self, reference: str, target: Descriptor, namespace: str = "default") -> None:
        """Point a name elsewhere, as another process would."""
        self._revision += 1
        self.records[namespace, reference] = NamedImage(
            namespace, reference, target, self._revision, self.now, self.now
        )

    async def get(self, namespace: str, reference: Reference) -> NamedImage | None:
        """See `NameRecords.get`."""
        await self._answer()
        return self.records.get((namespace, str(reference)))

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int | None, lease: str = ""
    ) -> NamedImage:
        """See `NameRecords.put`."""
        await self._answer()
        self.before_change("put", str(reference))
        before = self.records.get((namespace, str(reference)))
        if if_revision is not None and if_revision != (before.revision if before else 0):
            raise Conflict(f"put image {reference}: another revision")
        self.move(str(reference), target, namespace)
        self.on_lease(namespace, lease)
        record = self.records[namespace, str(reference)]
        if before is not None:
            record = self.records[namespace, str(reference)] = replace(record, created_at=before.created_at)
        return record

    async def remove(self, namespace: str, reference: str, if_revision: int) -> None:
        """See `NameRecords.remove`."""
        await self._answer()
        self.before_change("remove", reference)
        record = self.records.get((namespace, reference))
        if record is None:
            raise NotFound(f"find image {reference}: no such image", details={"kind": "image"})
        if record.revision != if_revision:
            raise Conflict(f"remove image {reference}: another revision")
        del self.records[namespace, reference]

    async def page(self, namespace: str, after: str, limit: int) -> NamePage:
        """See `NameRecords.page`."""
        await self._answer()
        places = {
            name if namespace != ALL_NAMESPACES else f"{place} {name}": record
            for (place, name), record in sorted(self.records.items())
            if namespace in (place, ALL_NAMESPACES)
        }
        later = [place for place in places if place > after]
        taken = later[:limit]
        return NamePage(tuple(places[place] for place in taken), taken[-1] if len(later) > limit else "")

    async def containers(self, namespace: str) -> tuple[ContainerUse, ...]:
        """See `NameRecords.containers`."""
        await self._answer()
        return tuple(use for place, use in self._containers if place == namespace)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("ask metadata: metadata is not running", service="metadata")


class Names:
    """A body of `hythe_distribution.claiming.ImageNames` in memory, with a call to make before each `put`.

    Attributes:
        on_lease: told the namespace and the lease that ends with a name.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], NameRecord] = {}
        self.before_put: Callable[[], None] = lambda: None
        self.on_lease: Callable[[str, str], None] = lambda namespace, lease: None
        self.away = False
        self._revision = 0

    async def get(self, namespace: str, reference: Reference) -> NameRecord:
        """See `hythe_distribution.claiming.ImageNames.get`."""
        if self.away:
            raise Unavailable("ask metadata.image.get: metadata is not running", service="metadata")
        return self.records.get((namespace, str(reference)), NameRecord(0, None))

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int, lease: str = ""
    ) -> None:
        """See `hythe_distribution.claiming.ImageNames.put`."""
        self.before_put()
        if (await self.get(namespace, reference)).revision != if_revision:
            raise Conflict(f"put {reference}: changed meanwhile")
        self.point(namespace, reference, target.digest)
        self.on_lease(namespace, lease)

    def point(self, namespace: str, reference: Reference, digest: Digest) -> None:
        """Change a record as somebody else would."""
        self._revision += 1
        self.records[namespace, str(reference)] = NameRecord(self._revision, digest)
