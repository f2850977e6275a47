"""Stands for the distribution service where bundle asks it for blobs: images made by a test, in a directory."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

from hythe.digest import Digest
from hythe.errors import HytheError, NotFound
from hythe.oci import Descriptor
from hythe_bundle.content import LayerReport, Origin, Report
from scripts.lab.images import Image, Index


class LocalBlobs:
    """`hythe_bundle.content.Blobs` on a directory of its own.

    Attributes:
        opened: how often each digest was opened.
        gates: a blob with an event here is handed out only once that is set.
        failures: what opening a digest raises.
    """

    def __init__(self, directory: Path) -> None:
        """Keep blobs below `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.opened: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, HytheError] = {}

    def add(self, image: Image | Index) -> Digest:
        """Have all blobs of `image`; return the digest of its root."""
        for blob in (*image.blobs, *image.manifests):
            (self._directory / blob.digest).write_bytes(blob.data)
        return Digest(image.root.digest.removeprefix("sha256:"))

    def damage(self, digest: str, data: bytes) -> None:
        """Have other bytes under a digest."""
        (self._directory / digest).write_bytes(data)

    async def open(self, origin: Origin, blob: Descriptor, report: Report) -> int:
        """See `Blobs.open`."""
        digest = str(blob.digest)
        self.opened[digest] += 1
        report(LayerReport(blob.digest, "fetching", 0, blob.size_bytes))
        if digest in self.gates:
            await self.gates[digest].wait()
        if digest in self.failures:
            raise self.failures[digest]
        return os.open(self._directory / digest, os.O_RDONLY)

    async def read_document(self, origin: Origin, digest: Digest, descriptor: Descriptor | None = None) -> bytes:
        """See `Blobs.read_document`."""
        try:
            return (self._directory / str(digest)).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"read {digest}: there is none", details={"kind": "blob"}) from None
