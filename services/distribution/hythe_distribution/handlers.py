"""Requests to get images and blobs: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.digest import Digest, parse_digest
from hythe.holding import Holder
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe.wire import distribution as wire
from hythe_distribution.convert import layer_message, platform_of, resolved_message
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.hosts import source_of
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.resolver import Resolved


class Handlers:
    """Their endpoints."""

    def __init__(
        self, puller: Puller, ensurer: Ensurer, address: Callable[[Digest], Awaitable[str]], holder: Holder
    ) -> None:
        """Answer; `address` gives a URL of a blob that is no file of this host."""
        self._puller = puller
        self._ensurer = ensurer
        self._address = address
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("image", "pull", wire.ImagePull, self.image_pull, scope="any", abandoned="cancel")
        service.operation(
            "content", "ensure", wire.ContentEnsure, self.content_ensure, scope="host", abandoned="cancel"
        )

    async def image_pull(self, context: Context, request: wire.ImagePull, progress: Progress) -> wire.ImagePulled:
        """Answer ``image.pull``."""

        def report(news: Resolved | BlobProgress) -> None:
            if isinstance(news, BlobProgress):
                progress(wire.PullProgress(layer=layer_message(news)))
            else:
                progress(wire.PullProgress(resolved=resolved_message(news)))

        wish = Wish(
            parse_reference(request.reference),
            platform_of(request.platform),
            request.all_platforms,
            request.plain_http,
            request.foreign_layers,
            request.referrers,
        )
        async with self._holder.hold(context.namespace, context.request_id) as held:
            pulled = await self._puller.pull(context.namespace, wish, held, report)
        return wire.ImagePulled(
            image=resolved_message(pulled.image),
            fetched_bytes=pulled.fetched_bytes,
            platforms=[str(image.platform) for image in pulled.image.images],
            referrers=[str(digest) for digest in pulled.referrers],
        )

    async def content_ensure(
        self, context: Context, request: wire.ContentEnsure, progress: Progress
    ) -> wire.ContentLocation:
        """Answer ``content.ensure``."""
        wanted = request.descriptor
        descriptor = Descriptor(wanted.media_type, parse_digest(wanted.digest), wanted.size_bytes)
        source = source_of(parse_reference(request.reference), request.plain_http)
        found = await self._ensurer.ensure(source, descriptor, lambda news: progress(layer_message(news)))
        if found.path is not None:
            return wire.ContentLocation(path=str(found.path), size_bytes=found.size_bytes)
        url = await self._address(descriptor.digest)
        return wire.ContentLocation(path="", size_bytes=found.size_bytes, url=url)
