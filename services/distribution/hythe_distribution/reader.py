"""Reading images: in a thread, with what is remembered of their documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hythe import tracing
from hythe.oci import Descriptor
from hythe.ports.content import Content
from hythe_distribution.images import Image, read_image
from hythe_distribution.parsed import Documents
from hythe_distribution.presence import asked, seen
from hythe_distribution.workers import Workers

FEW = 16
"""Up to so many images the store is asked for each blob; beyond, one look over all of it is cheaper."""


class ImageReader:
    """Reads what is here of images. What documents say is remembered, whether blobs are here is asked each time."""

    def __init__(self, content: Content, documents: Documents, workers: Workers) -> None:
        self._content = content
        self._documents = documents
        self._workers = workers

    async def read(self, targets: Sequence[Descriptor]) -> list[Image]:
        """Return the image of each root, in their order; see `hythe_distribution.images.read_image`."""
        with tracing.span("read images", oci__images=len(targets)):
            return await self._workers.run(None, partial(self._read, targets))

    async def read_one(self, target: Descriptor) -> Image:
        """Return the image of one root."""
        return (await self.read([target]))[0]

    def _read(self, targets: Sequence[Descriptor]) -> list[Image]:
        presence = asked(self._content) if len(targets) <= FEW else seen(self._content)
        return [read_image(self._documents, presence, target) for target in targets]
