"""Domain values as messages, and back, for all handlers of images."""

from __future__ import annotations

from hythe.oci import Descriptor, Platform, parse_platform
from hythe.wire import distribution as wire
from hythe.wire import images
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.progress import SendProgress
from hythe_distribution.push import Pushed
from hythe_distribution.resolver import Resolved


def platform_of(text: str) -> Platform | None:
    """Return the platform that a request names; None for an empty text."""
    return parse_platform(text) if text else None


def descriptor_message(descriptor: Descriptor) -> wire.Descriptor:
    """Return a descriptor as a message."""
    return wire.Descriptor(
        media_type=descriptor.media_type, digest=str(descriptor.digest), size_bytes=descriptor.size_bytes
    )


def layer_message(progress: BlobProgress) -> wire.LayerProgress:
    """Return the progress of a download as a message."""
    return wire.LayerProgress(
        digest=str(progress.digest),
        state=progress.state,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
    )


def resolved_message(image: Resolved) -> wire.ImageResolved:
    """Return what a reference points to as a message: of several platforms the chosen one."""
    chosen = image.chosen
    return wire.ImageResolved(
        reference=str(image.reference),
        target=descriptor_message(image.target),
        manifest=descriptor_message(chosen.manifest.descriptor),
        config=descriptor_message(chosen.manifest.config),
        layers=[descriptor_message(layer) for layer in chosen.manifest.layers],
        platform=str(chosen.platform),
    )


def push_message(progress: SendProgress) -> wire.PushProgress:
    """Return the progress of an upload as a message."""
    return wire.PushProgress(
        blob=wire.BlobPush(
            digest=str(progress.digest),
            state=progress.state,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
        )
    )


def pushed_message(pushed: Pushed) -> images.ImagePushed:
    """Return the result of a push or copy as a message."""
    return images.ImagePushed(
        reference=pushed.reference,
        digest=str(pushed.digest),
        sent_bytes=pushed.sent.sent_bytes,
        mounted=pushed.sent.mounted,
        existing=pushed.sent.existing,
        referrers=[str(digest) for digest in pushed.referrers],
    )
