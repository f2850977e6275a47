"""``image.pull``: distribution fetches and, as soon as the image is resolved, the host's bundle service unpacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hythe.reference import parse_reference
from hythe.wire.bundle import ImageUnpack
from hythe.wire.container import ImageRef
from hythe.wire.distribution import ImagePull, ImagePulled, ImageResolved, PullProgress
from hythe.wire.runtime import Pull
from hythe_runtime.controller.adapters.hosts import Images


class Pulls:
    """Pulls images to one host."""

    def __init__(self, images: Images, own_host: str) -> None:
        self._images = images
        self._own_host = own_host

    async def pull(self, namespace: str, request: Pull, report: Callable[[PullProgress], None]) -> ImagePulled:
        """Fetch and unpack an image at the same time; an error of either ends both, and nothing is registered.

        Raises:
            HytheError: of distribution or bundle, whichever failed first.
        """
        reference = str(parse_reference(request.reference))
        host = request.host or self._own_host
        unpacking: asyncio.Task[None] | None = None
        order = ImagePull(reference=reference, platform=request.platform, plain_http=request.plain_http)
        try:
            async with self._images.pull(namespace, order) as operation:
                async for progress in operation:
                    report(progress)
                    if progress.resolved is not None and request.unpack and unpacking is None:
                        unpacking = asyncio.create_task(
                            self._unpack(namespace, host, request, progress.resolved, report)
                        )
                result = operation.result
            if request.unpack and unpacking is None:
                unpacking = asyncio.create_task(self._unpack(namespace, host, request, result.image, report))
            if unpacking is not None:
                await unpacking
            return result
        finally:
            if unpacking is not None and not unpacking.done():
                unpacking.cancel()

    async def _unpack(
        self,
        namespace: str,
        host: str,
        request: Pull,
        image: ImageResolved,
        report: Callable[[PullProgress], None],
    ) -> None:
        order = ImageUnpack(
            image=ImageRef(reference=image.reference, digest=image.target.digest),
            platform=request.platform,
            plain_http=request.plain_http,
        )
        async with self._images.unpack(namespace, host, order) as operation:
            async for layer in operation:
                report(PullProgress(layer=layer))
