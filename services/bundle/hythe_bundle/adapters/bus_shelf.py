"""Blobs put into this host's content by way of its distribution service: asked for over the bus, sent over HTTP."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Awaitable, Callable

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.transfer import append
from hythe.digest import parse_digest
from hythe.errors import HytheError, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe.wire import content as wire
from hythe.wire import distribution, images
from hythe.wire.base import Empty
from hythe_bundle.making import in_thread

PIECE_BYTES = 8 << 20
COMMIT_S = 60.0
STEP = "store bundle"


class BusShelf:
    """Keeps the promises of `hythe_bundle.packing.Shelf`."""

    def __init__(self, bus: Bus, host: str) -> None:
        """Ask the distribution service of `host`."""
        self._bus = bus
        self._host = host

    async def keep(self, namespace: str, media_type: str, data: bytes) -> Descriptor:
        """See `Shelf.keep`."""
        pieces = [data]
        return await self._keep(namespace, media_type, lambda: _give(pieces))

    async def keep_stream(self, namespace: str, media_type: str, reader: int) -> Descriptor:
        """See `Shelf.keep_stream`."""
        return await self._keep(namespace, media_type, lambda: in_thread(lambda: _read_piece(reader)))

    async def register(self, namespace: str, reference: str, target: Descriptor) -> None:
        """See `Shelf.register`."""
        described = distribution.Descriptor(
            media_type=target.media_type, digest=str(target.digest), size_bytes=target.size_bytes
        )
        request = images.ImageRegister(reference=reference, target=described)
        await self._bus.call(self._subject(namespace, "image", "register"), request, images.ImageSummary)

    async def _keep(self, namespace: str, media_type: str, piece: Callable[[], Awaitable[bytes]]) -> Descriptor:
        ingest = _Ingest(self._bus, functools.partial(self._subject, namespace, "ingest"))
        await ingest.open()
        digest = hashlib.sha256()
        try:
            while data := await piece():
                digest.update(data)
                await ingest.append(data)
            await ingest.commit(f"sha256:{digest.hexdigest()}")
        except BaseException:
            await asyncio.shield(ingest.abort())
            raise
        return Descriptor(media_type, parse_digest(f"sha256:{digest.hexdigest()}"), ingest.size_bytes)

    def _subject(self, namespace: str, noun: str, verb: str) -> str:
        return subjects.host_rpc(namespace, self._host, "distribution", noun, verb)


def normalise(reference: str) -> str:
    """Return a reference in its one spelling.

    Raises:
        InvalidArgument: it is none.
    """
    return str(parse_reference(reference))


class _Ingest:
    """One blob on its way. Where the service let go of it because nothing came for a while, it is taken up again."""

    def __init__(self, bus: Bus, subject: Callable[[str], str]) -> None:
        self._bus = bus
        self._subject = subject
        self._reference = f"bundle-{new_id()}"
        self._opened: wire.IngestOpened | None = None
        self.size_bytes = 0

    async def open(self, *, resume: bool = False) -> wire.IngestOpened:
        request = wire.IngestOpen(reference=self._reference, resume=resume)
        self._opened = await self._bus.call(self._subject("open"), request, wire.IngestOpened)
        return self._opened

    async def append(self, data: bytes) -> None:
        assert self._opened is not None
        try:
            await self._send(self._opened.url, data)
        except NotFound as error:
            if error.details.get("kind") != "session":
                raise
            await self._send((await self.open(resume=True)).url, data)
        self.size_bytes += len(data)

    async def _send(self, url: str, data: bytes) -> None:
        await in_thread(lambda: append(url, self.size_bytes, data, STEP))

    async def commit(self, expected: str) -> None:
        assert self._opened is not None
        request = wire.IngestCommit(session=self._opened.session, expected=expected, size_bytes=self.size_bytes)
        try:
            await self._bus.call(self._subject("commit"), request, wire.ContentInfo, timeout_s=COMMIT_S)
        except NotFound as error:
            if error.details.get("kind") != "session":
                raise
            session = (await self.open(resume=True)).session
            again = request.model_copy(update={"session": session})
            await self._bus.call(self._subject("commit"), again, wire.ContentInfo, timeout_s=COMMIT_S)

    async def abort(self) -> None:
        assert self._opened is not None
        try:
            request = wire.IngestClose(session=self._opened.session, abort=True)
            await self._bus.call(self._subject("close"), request, Empty)
        except HytheError:
            pass  # the service lets go of it by itself, and `hythe content active` shows it


async def _give(pieces: list[bytes]) -> bytes:
    return pieces.pop() if pieces else b""


def _read_piece(reader: int) -> bytes:
    """Return the next piece of a pipe, whole but for the last. Blocks.

    Raises:
        Unavailable: the pipe broke.
    """
    data = bytearray()
    try:
        while len(data) < PIECE_BYTES and (more := os.read(reader, PIECE_BYTES - len(data))):
            data += more
    except OSError as error:
        raise Unavailable(f"{STEP}: the archive broke off", cause=str(error), outcome="failed") from error
    return bytes(data)
