"""Requests to the bundle service: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument
from hythe.oci import Platform, parse_platform
from hythe.wire import bundle as wire
from hythe.wire.base import Empty
from hythe.wire.container import ContainerSpec, ImageRef
from hythe.wire.distribution import LayerProgress
from hythe_bundle.bundle import Bundles
from hythe_bundle.content import LayerReport, Origin
from hythe_bundle.convert import wishes_of
from hythe_bundle.describing import BundleRequest
from hythe_bundle.unpacker import Unpacker


class Handlers:
    """The endpoints of the service."""

    def __init__(self, bundles: Bundles, unpacker: Unpacker, platform: Platform) -> None:
        """`platform` is this host's, taken where a request names none."""
        self._bundles = bundles
        self._unpacker = unpacker
        self._platform = platform

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("image", "unpack", wire.ImageUnpack, self.image_unpack, scope="host", abandoned="cancel")
        service.operation(
            "bundle", "prepare", wire.BundlePrepare, self.bundle_prepare, scope="host", abandoned="cancel"
        )
        service.unary("bundle", "release", wire.BundleRelease, self.bundle_release, scope="host")

    async def image_unpack(self, context: Context, request: wire.ImageUnpack, progress: Progress) -> wire.ImageUnpacked:
        """Answer ``image.unpack``."""
        origin = Origin(context.namespace, request.image.reference, request.plain_http)
        platform = parse_platform(request.platform) if request.platform else self._platform
        unpacked = await self._unpacker.unpack(
            origin, digest_of_image(request.image), platform, lambda news: progress(layer_progress(news))
        )
        return wire.ImageUnpacked(
            chain_id=unpacked.image.chain_id,
            manifest_digest=str(unpacked.image.manifest),
            unpacked_layers=unpacked.new_layers,
        )

    async def bundle_prepare(
        self, context: Context, request: wire.BundlePrepare, progress: Progress
    ) -> wire.BundlePrepared:
        """Answer ``bundle.prepare``."""
        wanted = BundleRequest(
            id=request.id,
            namespace=context.namespace,
            origin=Origin(context.namespace, request.image.reference, request.plain_http),
            image=None if request.spec.directory else digest_of_image(request.image),
            wishes=wishes_of(request.spec),
            cgroup_path=request.cgroup_path,
            request=request.model_dump_json(),
            directory=_directory(request.spec),
        )
        bundle = await self._bundles.prepare(wanted, lambda news: progress(layer_progress(news)))
        return wire.BundlePrepared(
            path=str(bundle.path),
            rootfs=str(bundle.rootfs),
            mounts=[
                wire.Mount(type=mount.type, source=mount.source, target=mount.target, options=list(mount.options))
                for mount in bundle.mounts
            ],
            args=list(bundle.args),
            stop_signal=bundle.stop_signal,
        )

    async def bundle_release(self, context: Context, request: wire.BundleRelease) -> Empty:
        """Answer ``bundle.release``."""
        await self._bundles.release(context.namespace, request.id)
        return Empty()


def digest_of_image(image: ImageRef) -> Digest:
    """Return the digest that an image must have to be unpacked.

    Raises:
        InvalidArgument: it is not known.
    """
    if image.digest is None:
        raise InvalidArgument(f"read image {image.reference}: its digest is not known yet", next_step="pull it first")
    return parse_digest(image.digest)


_OF_A_DIRECTORY = frozenset(("directory", "stdin", "auto_remove", "labels", "stop_signal", "stop_timeout_s"))
"""What a request may say beside a bundle directory: what Hythe itself does with the container."""


def _directory(spec: ContainerSpec) -> str:
    if spec.directory:
        others = sorted(set(spec.model_dump(exclude_defaults=True)) - _OF_A_DIRECTORY)
        if others:
            raise InvalidArgument(
                f"prepare bundle {spec.directory[:200]}: its config.json says {', '.join(others)}, the request may not",
                next_step="change config.json",
            )
    return spec.directory


def layer_progress(news: LayerReport) -> LayerProgress:
    """Return the message that tells where a layer stands."""
    return LayerProgress(
        digest=str(news.digest), state=news.state, done_bytes=news.done_bytes, total_bytes=news.total_bytes
    )
