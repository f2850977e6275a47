"""Stands for content where bundle makes images: blobs of namespaces in memory, and the names that were registered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from hythe.digest import Digest, digest_of
from hythe.errors import HytheError, NotFound
from hythe.oci import Descriptor
from scripts.lab.images import Image
from tests.fakes.blobs import LocalBlobs


class MemoryStore:
    """`hythe_bundle.storing.Store` of one process.

    Attributes:
        blobs: by (namespace, digest).
        names: what each name points to.
        open: ingests that were begun and neither committed nor let go of.
        failures: what a verb raises: ``write``, ``register``.
    """

    def __init__(self, served: LocalBlobs | None = None) -> None:
        """Have all that is committed in `served`, too, from where bundle reads blobs."""
        self.served = served
        self.blobs: dict[tuple[str, Digest], bytes] = {}
        self.names: dict[tuple[str, str], Descriptor] = {}
        self.open = 0
        self.failures: dict[str, HytheError] = {}

    def add(self, namespace: str, image: Image) -> None:
        """Have all blobs of an image."""
        for blob in (image.manifest, *image.blobs):
            self.blobs[namespace, digest_of(blob.data)] = blob.data

    def digests(self, namespace: str) -> set[Digest]:
        """Return the blobs of a namespace."""
        return {digest for owner, digest in self.blobs if owner == namespace}

    async def has(self, namespace: str, digest: Digest) -> bool:
        """See `Store.has`."""
        return (namespace, digest) in self.blobs

    async def read(self, namespace: str, digest: Digest) -> bytes:
        """See `Store.read`."""
        if (namespace, digest) not in self.blobs:
            raise NotFound(f"read {digest}: there is none", details={"kind": "blob"})
        return self.blobs[namespace, digest]

    @asynccontextmanager
    async def ingest(self, namespace: str) -> AsyncIterator[MemoryIngest]:
        """See `Store.ingest`."""
        self.open += 1
        try:
            yield MemoryIngest(self, namespace)
        finally:
            self.open -= 1

    async def remove(self, namespace: str, digest: Digest) -> None:
        """See `Store.remove`."""
        self.blobs.pop((namespace, digest), None)

    async def register(self, namespace: str, reference: str, target: Descriptor) -> str:
        """See `Store.register`."""
        if "register" in self.failures:
            raise self.failures["register"]
        self.names[namespace, reference] = target
        return reference


class MemoryIngest:
    """See `hythe_bundle.storing.Ingest`."""

    def __init__(self, store: MemoryStore, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._data = b""

    async def write(self, data: bytes) -> None:
        """See `Ingest.write`."""
        if "write" in self._store.failures:
            raise self._store.failures["write"]
        self._data += data

    async def commit(self, digest: Digest, size_bytes: int, labels: Mapping[str, str]) -> bool:
        """See `Ingest.commit`."""
        assert (digest, size_bytes) == (digest_of(self._data), len(self._data))
        new = (self._namespace, digest) not in self._store.blobs
        self._store.blobs[self._namespace, digest] = self._data
        if self._store.served is not None:
            self._store.served.damage(str(digest), self._data)
        return new
