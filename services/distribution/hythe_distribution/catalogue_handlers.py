"""Requests about names of images and what they point to: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.holding import Holder
from hythe.reference import parse_reference
from hythe.wire import images
from hythe_distribution.catalogue import Catalogue
from hythe_distribution.checking import Checked
from hythe_distribution.convert import descriptor_message, platform_of
from hythe_distribution.history import Step
from hythe_distribution.images import Variant
from hythe_distribution.listing import ListedImage
from hythe_distribution.pruning import PruneWish, parse_before
from hythe_distribution.usage import RootUsage


class CatalogueHandlers:
    """The endpoints of the service for names of images."""

    def __init__(self, catalogue: Catalogue, holder: Holder) -> None:
        self._catalogue = catalogue
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("image", "list", images.ImageList, self.image_list, scope="any")
        service.unary("image", "tag", images.ImageTag, self.image_tag, scope="any")
        service.unary("image", "remove", images.ImageRemove, self.image_remove, scope="any")
        service.unary("image", "inspect", images.ImageInspect, self.image_inspect, scope="any")
        service.unary("image", "history", images.ImageHistory, self.image_history, scope="any")
        service.operation("image", "check", images.ImageCheck, self.image_check, scope="any", abandoned="cancel")
        service.unary("image", "usage", images.ImageUsage, self.image_usage, scope="any")
        service.unary("image", "prune", images.ImagePrune, self.image_prune, scope="any")

    async def image_list(self, context: Context, request: images.ImageList) -> images.ImageSummaryPage:
        """Answer ``image.list``."""
        page = await self._catalogue.listing.page(context.namespace, request.after, request.limit)
        return images.ImageSummaryPage(images=[summary_message(image) for image in page.images], next=page.next)

    async def image_tag(self, context: Context, request: images.ImageTag) -> images.ImageSummary:
        """Answer ``image.tag``."""
        target = parse_reference(request.target)
        async with self._holder.hold(context.namespace, context.request_id) as held:
            return summary_message(await self._catalogue.listing.tag(context.namespace, request.image, target, held))

    async def image_remove(self, context: Context, request: images.ImageRemove) -> images.ImageRemoved:
        """Answer ``image.remove``."""
        gone = await self._catalogue.remover.remove(context.namespace, request.image, request.force)
        return images.ImageRemoved(untagged=list(gone.untagged), deleted=[str(root) for root in gone.deleted])

    async def image_inspect(self, context: Context, request: images.ImageInspect) -> images.ImageDetails:
        """Answer ``image.inspect``."""
        platform = platform_of(request.platform)
        found = await self._catalogue.inspector.inspect(context.namespace, request.image, platform)
        return images.ImageDetails(
            summary=summary_message(found.listed),
            target=descriptor_message(found.target),
            names=list(found.names),
            manifest=_manifest(found.chosen) if found.chosen.manifest else None,
            config=found.config,
            manifests=[_manifest(variant) for variant in found.variants],
        )

    async def image_history(self, context: Context, request: images.ImageHistory) -> images.ImageSteps:
        """Answer ``image.history``."""
        platform = platform_of(request.platform)
        history = await self._catalogue.historian.tell(context.namespace, request.image, platform)
        return images.ImageSteps(id=str(history.id), steps=[_step(step) for step in history.steps])

    async def image_check(self, context: Context, request: images.ImageCheck, progress: Progress) -> images.ImageChecks:
        """Answer ``image.check``."""
        checked = await self._catalogue.checker.check(context.namespace, request.images, request.verify)
        return images.ImageChecks(images=[_checked(image) for image in checked])

    async def image_usage(self, context: Context, request: images.ImageUsage) -> images.ImageUsages:
        """Answer ``image.usage``."""
        usage = await self._catalogue.accountant.usage(context.namespace)
        return images.ImageUsages(
            images=[_usage(image) for image in usage.images],
            total_bytes=usage.total_bytes,
            reclaimable_bytes=usage.reclaimable_bytes,
            unreferenced_bytes=usage.unreferenced_bytes,
        )

    async def image_prune(self, context: Context, request: images.ImagePrune) -> images.ImagePruned:
        """Answer ``image.prune``."""
        before = parse_before(request.before) if request.before else None
        wish = PruneWish(request.all, before, tuple(request.labels))
        pruned = await self._catalogue.pruner.prune(context.namespace, wish, request.dry_run)
        return images.ImagePruned(
            untagged=list(pruned.forgotten.untagged),
            deleted=[str(root) for root in pruned.forgotten.deleted],
            reclaimable_bytes=pruned.reclaimable_bytes,
        )


def summary_message(image: ListedImage) -> images.ImageSummary:
    """Return the message form of a listed image."""
    content = image.content
    return images.ImageSummary(
        reference=image.name.reference,
        digest=str(image.name.digest),
        id=content.id,
        platform=content.platform,
        platforms=list(content.platforms),
        size_bytes=content.size_bytes,
        complete=content.complete,
        dangling=image.dangling,
        labels=dict(content.labels),
        image_created_at=content.created,
        created_at=image.name.created_at,
        updated_at=image.name.updated_at,
    )


def _manifest(variant: Variant) -> images.ManifestDetails:
    manifest = variant.manifest
    return images.ManifestDetails(
        platform=str(variant.platform or ""),
        manifest=descriptor_message(manifest.descriptor if manifest else variant.descriptor),
        config=descriptor_message(manifest.config) if manifest else None,
        layers=[descriptor_message(layer) for layer in manifest.layers] if manifest else [],
        diff_ids=[str(diff_id) for diff_id in variant.config.diff_ids] if variant.config else [],
        size_bytes=variant.size_bytes,
        present_bytes=variant.present_bytes,
        missing=[str(digest) for digest in variant.missing],
    )


def _step(step: Step) -> images.ImageStep:
    return images.ImageStep(
        created_at=step.told.created,
        created_by=step.told.created_by,
        author=step.told.author,
        comment=step.told.comment,
        empty_layer=step.told.empty_layer,
        size_bytes=step.layer.size_bytes if step.layer else 0,
        layer=str(step.layer.digest) if step.layer else "",
    )


def _checked(image: Checked) -> images.ImageCheckResult:
    return images.ImageCheckResult(
        reference=image.reference,
        digest=str(image.root),
        platform=image.platform,
        complete=image.complete,
        blobs=image.blobs,
        present_blobs=image.present_blobs,
        size_bytes=image.size_bytes,
        present_bytes=image.present_bytes,
        missing=[str(digest) for digest in image.missing],
        corrupt=[str(digest) for digest in image.corrupt],
    )


def _usage(image: RootUsage) -> images.ImageUsageRow:
    return images.ImageUsageRow(
        references=list(image.references),
        digest=str(image.root),
        id=str(image.id or ""),
        size_bytes=image.size_bytes,
        shared_bytes=image.shared_bytes,
        unique_bytes=image.unique_bytes,
        blobs=image.blobs,
        containers=image.containers,
    )
