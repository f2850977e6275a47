"""Collections as the metadata service makes them, against a real distribution process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import Digest, digest_of
from hythe.identifiers import new_id
from hythe.ports.namespace_content import LabelledBlob, NamespaceContent
from hythe.wire import gc as wire
from hythe.wire.base import Empty
from tests.fixtures.secured_bus import HOST


class Metadata:
    """A metadata store that collects, one collection after the other.

    Attributes:
        instance: what the owner answered to the last begin.
    """

    def __init__(self, bus: Bus) -> None:
        self.store_id, self.era, self.revision, self.generation = new_id(), 1, 10, 0
        self.instance = new_id()
        self._bus = bus

    async def begin(self) -> wire.GcBegun:
        """Begin the next collection."""
        self.generation += 1
        self.revision += 1
        request = wire.GcBegin(store_id=self.store_id, era=self.era, revision=self.revision, generation=self.generation)
        begun = await self._bus.call(_subject("begin"), request, wire.GcBegun)
        self.instance = begun.instance
        return begun

    async def trust(self) -> None:
        """Confirm that this store may delete."""
        request = wire.GcTrust(store_id=self.store_id, era=self.era, revision=self.revision, generation=self.generation)
        await self._bus.call(_subject("trust"), request, Empty)

    async def list(self, after: int = 0, limit: int = 1000) -> wire.GcContentPage:
        """Ask what changed."""
        return await self._bus.call(_subject("list"), wire.GcContentList(after=after, limit=limit), wire.GcContentPage)

    async def sweep(
        self, digests: Sequence[Digest], namespace: str = "default", *, dry_run: bool = False
    ) -> wire.GcSwept:
        """Say that nothing refers to `digests`."""
        request = wire.GcContentSweep(
            generation=self.generation,
            instance=self.instance,
            namespace=namespace,
            digests=[str(digest) for digest in digests],
            dry_run=dry_run,
        )
        return await self._bus.call(_subject("sweep"), request, wire.GcSwept)

    async def leftovers(self, *, dry_run: bool = False) -> wire.GcSwept:
        """Have removed what was left."""
        request = wire.GcIngestSweep(generation=self.generation, instance=self.instance, dry_run=dry_run)
        return await self._bus.call(_subject("ingests"), request, wire.GcSwept)


def _subject(verb: str) -> str:
    return subjects.host_rpc("", HOST, "distribution", "gc", verb)


def put(content: NamespaceContent, data: bytes, **labels: str) -> LabelledBlob:
    """Store `data` under `labels`."""
    with content.open_ingest(f"put-{digest_of(data)}") as ingest:
        ingest.write(data)
        return ingest.commit(digest_of(data), len(data), labels)


def stored(root: Path) -> set[str]:
    """Return the hex digests of the blobs in a stack's content directory."""
    return {path.name for path in (root / "content" / "blobs" / "sha256").iterdir()}
