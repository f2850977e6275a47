"""Content as one who makes images sees it: blobs put into a namespace, and a name for what they make up together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from hythe.digest import Digest, digest_of
from hythe.errors import HytheError
from hythe.holding import Held
from hythe.oci import Descriptor
from hythe.ports.leases import Referred


class Ingest(Protocol):
    """A blob on its way into content."""

    async def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            ResourceExhausted: the disk or its reserve is used up.
            Unavailable: distribution is away.
        """

    async def commit(self, digest: Digest, size_bytes: int, labels: Mapping[str, str]) -> bool:
        """Make what was written a blob of the namespace, durably; tell whether it is new there.

        Raises:
            FailedPrecondition: what was written is not that.
        """


class Store(Protocol):
    """The content of this host, a namespace at a time. All raise Unavailable when distribution is away."""

    async def has(self, namespace: str, digest: Digest) -> bool:
        """Tell whether the namespace has a blob."""

    async def read(self, namespace: str, digest: Digest) -> bytes:
        """Return a document, a blob of at most 4 MiB, whole and verified.

        Raises:
            NotFound: the namespace has no such blob.
            InvalidArgument: it is larger.
        """

    def ingest(self, namespace: str) -> AbstractAsyncContextManager[Ingest]:
        """Begin a blob; nothing is left of one that the block has not committed."""

    async def remove(self, namespace: str, digest: Digest) -> None:
        """Take a blob out of the namespace; nothing happens if it isn't there."""

    async def register(self, namespace: str, reference: str, target: Descriptor) -> str:
        """Give an image that is all here a name, and return that name as it is kept.

        Raises:
            FailedPrecondition: a blob of it is missing (details ``digest``).
            InvalidArgument: the reference is none, or reserved.
        """


class Additions:
    """The blobs that one piece of work has added to a namespace, to take them out again if it fails.

    Until the work has ended they are held, and so is what they stand on: nothing else refers to them yet.
    """

    def __init__(self, store: Store, namespace: str, held: Held) -> None:
        self._store = store
        self._namespace = namespace
        self._held = held
        self._new: list[Digest] = []

    async def refer(self, digest: Digest) -> None:
        """Keep a blob and what its labels name, be it here or about to be committed; before it is asked whether it is here.

        Raises:
            Unavailable, DeadlineExceeded: metadata is away.
        """
        await self._held.refer([Referred(digest)])

    def note(self, digest: Digest, *, new: bool) -> None:
        """Take note of a blob that was committed; only one that is `new` would be taken out."""
        if new:
            self._new.append(digest)

    async def put(self, data: bytes) -> Digest:
        """Put a document into the namespace and return its digest.

        Raises:
            HytheError: see `Ingest` and `refer`.
        """
        digest = digest_of(data)
        await self.refer(digest)
        async with self._store.ingest(self._namespace) as ingest:
            await ingest.write(data)
            self.note(digest, new=await ingest.commit(digest, len(data), {}))
        return digest

    async def undo(self) -> None:
        """Take out what was added, as far as that is possible."""
        for digest in reversed(self._new):
            try:
                await self._store.remove(self._namespace, digest)
            except HytheError:
                continue  # it stays without a name, until it is collected


@asynccontextmanager
async def additions(store: Store, namespace: str, held: Held) -> AsyncIterator[Additions]:
    """Run a block that adds blobs; if it fails or is cancelled, they are taken out again.

    A blob that somebody else begins to use meanwhile is missing to him then; who registers an image looks for that.
    """
    added = Additions(store, namespace, held)
    try:
        yield added
    except BaseException:
        await asyncio.shield(added.undo())
        raise
