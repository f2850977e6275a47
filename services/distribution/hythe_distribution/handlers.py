"""Requests to the distribution service: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.digest import parse_digest
from hythe.oci import Descriptor, Platform, parse_platform
from hythe.reference import parse_reference
from hythe.wire import distribution as wire
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.hosts import source_of
from hythe_distribution.pull import Puller
from hythe_distribution.resolver import Resolved


class Handlers:
    """The endpoints of the service."""

    def __init__(self, puller: Puller, ensurer: Ensurer) -> None:
        self._puller = puller
        self._ensurer = ensurer

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
                progress(wire.PullProgress(layer=_layer(news)))
            else:
                progress(wire.PullProgress(resolved=_resolved(news)))

        pulled = await self._puller.pull(
            context.namespace,
            parse_reference(request.reference),
            _platform(request.platform),
            request.plain_http,
            report,
        )
        return wire.ImagePulled(image=_resolved(pulled.image), fetched_bytes=pulled.fetched_bytes)

    async def content_ensure(
        self, context: Context, request: wire.ContentEnsure, progress: Progress
    ) -> wire.ContentLocation:
        """Answer ``content.ensure``."""
        wanted = request.descriptor
        descriptor = Descriptor(wanted.media_type, parse_digest(wanted.digest), wanted.size_bytes)
        source = source_of(parse_reference(request.reference), request.plain_http)
        found = await self._ensurer.ensure(source, descriptor, lambda news: progress(_layer(news)))
        return wire.ContentLocation(path=str(found.path), size_bytes=found.size_bytes)


def _platform(text: str) -> Platform | None:
    return parse_platform(text) if text else None


def _descriptor(descriptor: Descriptor) -> wire.Descriptor:
    return wire.Descriptor(
        media_type=descriptor.media_type, digest=str(descriptor.digest), size_bytes=descriptor.size_bytes
    )


def _layer(progress: BlobProgress) -> wire.LayerProgress:
    return wire.LayerProgress(
        digest=str(progress.digest),
        state=progress.state,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
    )


def _resolved(image: Resolved) -> wire.ImageResolved:
    return wire.ImageResolved(
        reference=str(image.reference),
        target=_descriptor(image.target),
        manifest=_descriptor(image.manifest.descriptor),
        config=_descriptor(image.manifest.config),
        layers=[_descriptor(layer) for layer in image.manifest.layers],
        platform=str(image.platform),
    )
