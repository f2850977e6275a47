"""``image.fetch``: an artifact with all its content."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.holding import Holder
from hythe.reference import parse_reference
from hythe.wire.bundles import ArtifactFetch, ArtifactFetched
from hythe.wire.distribution import PullProgress
from hythe_distribution.artifacts import ArtifactFetcher
from hythe_distribution.convert import descriptor_message, layer_message


class ArtifactHandlers:
    """The endpoint."""

    def __init__(self, fetcher: ArtifactFetcher, holder: Holder) -> None:
        self._fetcher = fetcher
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add it to `service`."""
        service.operation("image", "fetch", ArtifactFetch, self.image_fetch, scope="any", abandoned="cancel")

    async def image_fetch(self, context: Context, request: ArtifactFetch, progress: Progress) -> ArtifactFetched:
        """Answer ``image.fetch``."""
        async with self._holder.hold(context.namespace, context.request_id) as held:
            found = await self._fetcher.fetch(
                context.namespace,
                parse_reference(request.reference),
                request.artifact_type,
                request.plain_http,
                held,
                lambda news: progress(PullProgress(layer=layer_message(news))),
            )
        return ArtifactFetched(
            reference=str(found.reference),
            target=descriptor_message(found.target),
            fetched_bytes=found.fetched_bytes,
        )
