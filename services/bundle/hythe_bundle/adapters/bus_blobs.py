"""Blobs by way of this host's distribution service: asked for over the bus, read from the path or address it answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.transfer import download
from hythe.digest import Digest, verified
from hythe.errors import DataLoss, InvalidArgument, Unavailable
from hythe.oci import Descriptor
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.wire import distribution as wire
from hythe_bundle.adapters import disk_errors
from hythe_bundle.content import LayerReport, Origin, Report

ATTEMPTS = 3


class BusBlobs:
    """Keeps the promises of `hythe_bundle.content.Blobs`."""

    def __init__(self, bus: Bus, host: str, directory: Path) -> None:
        """Ask the distribution service of `host` and no other: its paths mean something here alone.

        Args:
            directory: where blobs that content keeps elsewhere lie while they are read, without a name.
        """
        self._bus = bus
        self._host = host
        self._directory = directory

    async def open(self, origin: Origin, blob: Descriptor, report: Report) -> int:
        """See `Blobs.open`."""
        wanted = wire.Descriptor(media_type=blob.media_type, digest=str(blob.digest), size_bytes=blob.size_bytes)
        return await self._open(origin, wanted, report)

    async def read_document(self, origin: Origin, digest: Digest, descriptor: Descriptor | None = None) -> bytes:
        """See `Blobs.read_document`."""
        size_bytes = descriptor.size_bytes if descriptor else wire.UNKNOWN_SIZE
        if size_bytes > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"read {digest}: {size_bytes} bytes are more than a document may have")
        media_type = descriptor.media_type if descriptor else ""
        wanted = wire.Descriptor(media_type=media_type, digest=str(digest), size_bytes=size_bytes)
        fd = await self._open(origin, wanted, lambda news: None)
        raw = await asyncio.to_thread(_read_small, fd, MAX_DOCUMENT_BYTES + 1)
        if hashlib.sha256(raw).hexdigest() != digest.hex:
            raise DataLoss(
                f"read {digest}: the content store has other bytes under that digest",
                next_step="check the disk (`dmesg`), remove the blob, and pull the image again",
            )
        return raw

    async def _open(self, origin: Origin, wanted: wire.Descriptor, report: Report) -> int:
        """Ask for a blob and open the path at once; one that has gone meanwhile is asked for again."""
        subject = subjects.host_rpc(origin.namespace, self._host, "distribution", "content", "ensure")
        request = wire.ContentEnsure(descriptor=wanted, reference=origin.reference, plain_http=origin.plain_http)
        digest = Digest(wanted.digest.removeprefix("sha256:"))
        for _ in range(ATTEMPTS):
            async with self._bus.operate(subject, request, wire.LayerProgress, wire.ContentLocation) as operation:
                async for news in operation:
                    report(LayerReport(digest, news.state, news.done_bytes, news.total_bytes))
                location = operation.result
            if not location.path:
                return await asyncio.to_thread(_download, location, digest, self._directory)
            try:
                return os.open(location.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
        raise Unavailable(
            f"open {digest}: it was deleted from the content store {ATTEMPTS} times while it was asked for",
            service="distribution",
            outcome="failed",
        )


def _download(location: wire.ContentLocation, digest: Digest, directory: Path) -> int:
    """Return a descriptor, open at the start, of a file without a name that holds the blob, verified once more."""
    fd = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        chunks = download(location.url, {}, f"read {digest}")
        for chunk in verified(chunks, digest, location.size_bytes, str(digest)):
            _write(fd, chunk, f"read {digest}", directory)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    except BaseException:
        os.close(fd)
        raise


def _write(fd: int, data: bytes, step: str, directory: Path) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise disk_errors.of_os(error, step, directory) from error


def _read_small(fd: int, most_bytes: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read(most_bytes)
