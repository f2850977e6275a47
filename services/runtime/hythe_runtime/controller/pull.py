"""``image.pull``: distribution fetches and, as soon as the image is resolved, the host's bundle service unpacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

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
        """Fetch and unpack an image at the same time; an error of either ends both.

        Of all platforms the one that was asked for is unpacked, or else the one that distribution says runs here.

        Raises:
            HytheError: of distribution or bundle, whichever failed first.
        """
        reference = str(parse_reference(request.reference))
        host = request.host or self._own_host
        resolved: asyncio.Future[ImageResolved] = asyncio.get_running_loop().create_future()
        order = ImagePull(
            reference=reference,
            platform=request.platform,
            all_platforms=request.all_platforms,
            plain_http=request.plain_http,
            foreign_layers=request.foreign_layers,
            referrers=request.referrers,
        )

        async def fetch() -> ImagePulled:
            async with self._images.pull(namespace, order) as operation:
                async for progress in operation:
                    report(progress)
                    if progress.resolved is not None and not resolved.done():
                        resolved.set_result(progress.resolved)
                if not resolved.done():
                    resolved.set_result(operation.result.image)
                return operation.result

        fetching = asyncio.create_task(fetch())
        works: list[asyncio.Task[Any]] = [fetching]
        if request.unpack:
            works.append(asyncio.create_task(self._unpack(namespace, host, request, resolved, report)))
        await both(works)
        return fetching.result()

    async def _unpack(
        self,
        namespace: str,
        host: str,
        request: Pull,
        resolved: asyncio.Future[ImageResolved],
        report: Callable[[PullProgress], None],
    ) -> None:
        image = await resolved
        order = ImageUnpack(
            image=ImageRef(reference=image.reference, digest=image.target.digest),
            platform=request.platform or (image.platform if request.all_platforms else ""),
            plain_http=request.plain_http,
        )
        async with self._images.unpack(namespace, host, order) as operation:
            async for layer in operation:
                report(PullProgress(layer=layer))


async def both(works: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until all `works` have ended well; the first error, or being cancelled, ends the others too.

    Raises:
        HytheError: the first error.
    """
    try:
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION)
        for work in done:
            work.result()
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
