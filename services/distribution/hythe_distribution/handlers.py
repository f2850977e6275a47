"""Requests to the distribution service: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.digest import parse_digest
from hythe.oci import Descriptor, Platform, parse_platform
from hythe.ports.content import Content
from hythe.reference import parse_reference
from hythe.wire import distribution as wire
from hythe.wire import images as wire_images
from hythe.wire.base import Empty
from hythe.wire.metadata import ImageRecord
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.ensure import Ensurer
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.hosts import source_of
from hythe_distribution.images import ImageContent, describe
from hythe_distribution.pull import Puller
from hythe_distribution.resolver import Resolved
from hythe_distribution.workers import Workers


class Handlers:
    """The endpoints of the service."""

    def __init__(
        self, puller: Puller, ensurer: Ensurer, content: Content, names: MetadataNames, workers: Workers
    ) -> None:
        self._puller = puller
        self._ensurer = ensurer
        self._content = content
        self._names = names
        self._workers = workers

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("image", "pull", wire.ImagePull, self.image_pull, scope="any", abandoned="cancel")
        service.operation(
            "content", "ensure", wire.ContentEnsure, self.content_ensure, scope="host", abandoned="cancel"
        )
        service.unary("image", "list", wire_images.ImageList, self.image_list, scope="any")
        service.unary("image", "remove", wire_images.ImageRemove, self.image_remove, scope="any")

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

    async def image_list(self, context: Context, request: wire_images.ImageList) -> wire_images.ImageSummaryPage:
        """Answer ``image.list``."""
        page = await self._names.list(context.namespace, request.after, request.limit)
        described = await self._workers.run(
            None, lambda: [describe(self._content, parse_digest(record.digest)) for record in page.images]
        )
        images = [_summary(record, found) for record, found in zip(page.images, described, strict=True)]
        return wire_images.ImageSummaryPage(images=images, next=page.next)

    async def image_remove(self, context: Context, request: wire_images.ImageRemove) -> Empty:
        """Answer ``image.remove``."""
        await self._names.remove(context.namespace, parse_reference(request.reference))
        return Empty()


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


def _summary(record: ImageRecord, found: ImageContent) -> wire_images.ImageSummary:
    return wire_images.ImageSummary(
        reference=record.reference,
        digest=record.digest,
        platform=found.platform,
        size_bytes=found.size_bytes,
        complete=found.complete,
        image_created_at=found.created,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )
