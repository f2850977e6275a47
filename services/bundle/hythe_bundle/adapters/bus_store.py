"""Content by way of this host's distribution service: orders over the bus, bytes over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.transfer import append, download
from hythe.digest import Digest, verified
from hythe.errors import AlreadyExists, HytheError, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.oci import Descriptor
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.wire import content as wire
from hythe.wire import images
from hythe.wire.base import Empty
from hythe.wire.distribution import Descriptor as DescriptorMessage

COMMIT_TIMEOUT_S = 60.0
SETTLE_S = 5.0
INGEST_PREFIX = "made-"

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class BusStore:
    """Keeps the promises of `hythe_bundle.storing.Store`."""

    def __init__(self, bus: Bus, host: str) -> None:
        """Ask the distribution service of `host`."""
        self._bus = bus
        self._host = host

    async def has(self, namespace: str, digest: Digest) -> bool:
        """See `Store.has`."""
        try:
            await self.ask(namespace, "content", "info", wire.ContentInfoGet(digest=str(digest)), wire.ContentInfo)
        except NotFound:
            return False
        return True

    async def read(self, namespace: str, digest: Digest) -> bytes:
        """See `Store.read`."""
        found = await self.ask(namespace, "content", "open", wire.ContentOpen(digest=str(digest)), wire.ContentAddress)
        if found.size_bytes > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"read {digest}: {found.size_bytes} bytes are more than a document may have")
        return await asyncio.to_thread(_read, found, digest)

    @asynccontextmanager
    async def ingest(self, namespace: str) -> AsyncIterator[BusIngest]:
        """See `Store.ingest`."""
        ingest = BusIngest(self, namespace, INGEST_PREFIX + new_id())
        try:
            yield ingest
        finally:
            await asyncio.shield(ingest.abort())

    async def remove(self, namespace: str, digest: Digest) -> None:
        """See `Store.remove`."""
        try:
            await self.ask(namespace, "content", "remove", wire.ContentRemove(digest=str(digest)), Empty)
        except NotFound:
            pass

    async def register(self, namespace: str, reference: str, target: Descriptor) -> str:
        """See `Store.register`."""
        message = DescriptorMessage(
            media_type=target.media_type, digest=str(target.digest), size_bytes=target.size_bytes
        )
        request = images.ImageRegister(reference=reference, target=message)
        summary = await self.ask(namespace, "image", "register", request, images.ImageSummary, COMMIT_TIMEOUT_S)
        return summary.reference

    async def ask(
        self,
        namespace: str,
        noun: str,
        verb: str,
        request: BaseModel,
        reply: type[ReplyT],
        timeout_s: float | None = None,
    ) -> ReplyT:
        """Make one request to the host's distribution service."""
        subject = subjects.host_rpc(namespace, self._host, "distribution", noun, verb)
        return await self._bus.call(subject, request, reply, timeout_s=timeout_s)


class BusIngest:
    """Keeps the promises of `hythe_bundle.storing.Ingest`; opened by the first write."""

    def __init__(self, store: BusStore, namespace: str, reference: str) -> None:
        self._store = store
        self._namespace = namespace
        self._reference = reference
        self._opened: wire.IngestOpened | None = None
        self._offset = 0

    async def write(self, data: bytes) -> None:
        """See `Ingest.write`."""
        if self._opened is None:
            self._opened = await self._open(resume=False)
        try:
            await self._send(self._opened, data)
        except NotFound as error:
            if error.details.get("kind") != "session":
                raise
            self._opened = await self._open(resume=True)  # nothing was written for so long that it was let go of
            await self._send(self._opened, data)

    async def _open(self, *, resume: bool) -> wire.IngestOpened:
        request = wire.IngestOpen(reference=self._reference, resume=resume)
        return await self._store.ask(self._namespace, "ingest", "open", request, wire.IngestOpened)

    async def _send(self, opened: wire.IngestOpened, data: bytes) -> None:
        sending = asyncio.create_task(
            asyncio.to_thread(append, opened.url, self._offset, data, f"write {self._reference}")
        )
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending], timeout=SETTLE_S)  # what is in use cannot be aborted
            raise
        self._offset += len(data)

    async def commit(self, digest: Digest, size_bytes: int, labels: Mapping[str, str]) -> bool:
        """See `Ingest.commit`."""
        assert self._opened is not None, "nothing was written"
        try:
            try:
                await self._commit(self._opened, digest, size_bytes, labels)
            except NotFound as error:
                if error.details.get("kind") != "session":
                    raise
                self._opened = await self._open(resume=True)
                await self._commit(self._opened, digest, size_bytes, labels)
        except AlreadyExists:
            return False
        self._opened = None
        return True

    async def _commit(
        self, opened: wire.IngestOpened, digest: Digest, size_bytes: int, labels: Mapping[str, str]
    ) -> None:
        request = wire.IngestCommit(
            session=opened.session, expected=str(digest), size_bytes=size_bytes, labels=dict(labels)
        )
        await self._store.ask(
            self._namespace, "ingest", "commit", request, wire.ContentInfo, timeout_s=COMMIT_TIMEOUT_S
        )

    async def abort(self) -> None:
        """Remove what was written, unless it was committed; may be repeated."""
        if self._opened is None:
            return
        opened, self._opened = self._opened, None
        try:
            await self._store.ask(
                self._namespace, "ingest", "close", wire.IngestClose(session=opened.session, abort=True), Empty
            )
            await self._store.ask(
                self._namespace, "ingest", "abort", wire.IngestAbort(reference=self._reference), Empty
            )
        except HytheError:
            pass  # gone, as it should be; or distribution is away, and the error in progress says more


def _read(found: wire.ContentAddress, digest: Digest) -> bytes:
    chunks = download(found.url, {}, f"read {digest}")
    return b"".join(verified(chunks, digest, found.size_bytes, str(digest)))
