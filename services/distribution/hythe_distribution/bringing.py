"""Bringing the blobs of a tree from its registry, all at once."""

from __future__ import annotations

from collections.abc import Sequence

from hythe.errors import NotFound
from hythe.oci import Descriptor
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.fetcher import BlobProgress, Fetcher, Watch
from hythe_distribution.gathering import all_of
from hythe_distribution.hosts import Source
from hythe_distribution.resolver import Resolver
from hythe_distribution.workers import Workers


class Bringer:
    """Fetches blobs of each kind from where that kind is kept."""

    def __init__(self, fetcher: Fetcher, resolver: Resolver, workers: Workers) -> None:
        """Layers are fetched in the fetcher's threads, what is kept among manifests in those of `workers`."""
        self._fetcher = fetcher
        self._resolver = resolver
        self._workers = workers

    async def bring(
        self,
        source: Source,
        blobs: Sequence[Descriptor],
        opaque: Sequence[Descriptor],
        foreign: Sequence[Descriptor],
        watch: Watch,
    ) -> int:
        """Return when all are here, whole and verified: how many bytes came over the network for it.

        The largest come first: they decide when the last one is done.

        Args:
            blobs, opaque, foreign: as in `hythe_distribution.tree.Tree`.

        Raises:
            HytheError: see `Fetcher.ensure`; the others are given up then, and what they have brought is kept.
        """
        works = [
            *((blob.size_bytes, self._fetcher.ensure(source, blob, watch)) for blob in blobs),
            *((layer.size_bytes, self._fetcher.ensure(source, layer, watch, foreign=True)) for layer in foreign),
            *((entry.size_bytes, self._ensure_opaque(source, entry, watch)) for entry in opaque),
        ]
        return sum(await all_of(work for _, work in sorted(works, key=lambda work: -work[0])))

    async def _ensure_opaque(self, source: Source, entry: Descriptor, watch: Watch) -> int:
        """Look among the blobs, then among the manifests: nothing says where a registry keeps what it doesn't know."""
        try:
            return await self._fetcher.ensure(source, entry, watch)
        except NotFound:
            if entry.size_bytes > MAX_DOCUMENT_BYTES:
                raise
        cancellation = Cancellation()
        fetched = await self._workers.run(cancellation, self._resolver.ensure_opaque, source, entry, cancellation)
        watch(BlobProgress(entry.digest, "fetched", fetched, entry.size_bytes))
        return fetched
