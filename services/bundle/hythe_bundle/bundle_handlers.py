"""Requests about bundles as directories and archives: each is converted, passed on, and its answer converted back."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.errors import InvalidArgument
from hythe.holding import Holder
from hythe.wire import bundle as bundle_wire
from hythe.wire import bundles as wire
from hythe.wire import distribution
from hythe.wire.base import Empty
from hythe.wire.container import ContainerSpec
from hythe_bundle.content import LayerReport, Origin
from hythe_bundle.convert import wishes_of
from hythe_bundle.directories import Directories, Made
from hythe_bundle.directories import Progress as Told
from hythe_bundle.handlers import digest_of_image, layer_progress
from hythe_bundle.known_bundles import KnownBundles, Listed
from hythe_bundle.packing import Packer

_OF_A_CONFIG = frozenset(("stdin", "auto_remove", "labels", "stop_timeout_s", "directory"))
"""What a spec says of a container and not of its config.json."""


class BundleHandlers:
    """The endpoints of carried bundles."""

    def __init__(self, directories: Directories, known: KnownBundles, packer: Packer, holder: Holder) -> None:
        self._directories = directories
        self._known = known
        self._packer = packer
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("bundle", "create", wire.BundleCreate, self.create, scope="host", abandoned="cancel")
        service.operation("bundle", "pack", wire.BundlePack, self.pack, scope="host", abandoned="cancel")
        service.operation("bundle", "store", wire.BundleStore, self.store, scope="host", abandoned="cancel")
        service.operation("bundle", "unpack", wire.BundleUnpack, self.unpack, scope="host", abandoned="cancel")
        service.operation("bundle", "fetch", wire.BundleFetch, self.fetch, scope="host", abandoned="cancel")
        service.unary("bundle", "list", wire.BundleList, self.list, scope="host")
        service.unary("bundle", "inspect", wire.BundleInspect, self.inspect, scope="host")
        service.operation("bundle", "remove", wire.BundleRemove, self.remove, scope="host")

    async def create(self, context: Context, request: wire.BundleCreate, progress: Progress) -> wire.BundleMade:
        """Answer ``bundle.create``."""
        _check_spec(request.spec)
        origin = Origin(context.namespace, request.image.reference, request.plain_http)
        made = await self._directories.create(
            origin,
            digest_of_image(request.image),
            wishes_of(request.spec),
            request.directory,
            lambda news: progress(_layer(news)),
            _told(progress, "copying"),
        )
        return _made(made)

    async def unpack(self, context: Context, request: wire.BundleUnpack, progress: Progress) -> wire.BundleMade:
        """Answer ``bundle.unpack``."""
        return _made(
            await self._directories.unpack(
                context.namespace, request.file, request.directory, _told(progress, "unpacking")
            )
        )

    async def fetch(self, context: Context, request: wire.BundleFetch, progress: Progress) -> wire.BundleMade:
        """Answer ``bundle.fetch``."""
        made = await self._directories.fetch(
            Origin(context.namespace, request.image.reference, request.plain_http),
            digest_of_image(request.image),
            request.directory,
            lambda news: progress(_layer(news)),
            _told(progress, "unpacking"),
        )
        return _made(made)

    async def pack(self, context: Context, request: wire.BundlePack, progress: Progress) -> wire.BundlePacked:
        """Answer ``bundle.pack``."""
        _check_one(request.id, request.directory)
        packed = await self._packer.pack(
            context.namespace,
            request.id or "",
            request.directory,
            request.file,
            request.compression,
            request.epoch_s,
            _told(progress, "packing"),
        )
        return wire.BundlePacked(
            file=packed.file, digest=str(packed.digest), size_bytes=packed.size_bytes, warnings=list(packed.warnings)
        )

    async def store(self, context: Context, request: wire.BundleStore, progress: Progress) -> wire.BundleStored:
        """Answer ``bundle.store``."""
        _check_one(request.id, request.directory)
        async with self._holder.hold(context.namespace, context.request_id) as held:
            stored = await self._packer.store(
                context.namespace,
                request.id or "",
                request.directory,
                request.reference,
                request.epoch_s,
                held,
                _told(progress, "packing"),
            )
        target = distribution.Descriptor(
            media_type=stored.target.media_type,
            digest=str(stored.target.digest),
            size_bytes=stored.target.size_bytes,
        )
        return wire.BundleStored(reference=stored.reference, target=target, warnings=list(stored.warnings))

    async def list(self, context: Context, request: wire.BundleList) -> wire.BundlePage:
        """Answer ``bundle.list``."""
        rows = [row for row in await self._known.list(context.namespace) if row.path > request.after]
        page = rows[: request.limit]
        return wire.BundlePage(bundles=[_row(row) for row in page], next=page[-1].path if len(rows) > len(page) else "")

    async def inspect(self, context: Context, request: wire.BundleInspect) -> wire.BundleDetails:
        """Answer ``bundle.inspect``."""
        _check_one(request.id, request.directory)
        found = await self._known.inspect(context.namespace, request.id or "", request.directory)
        return wire.BundleDetails(
            path=found.path,
            kind=found.kind,
            root=found.root,
            config=found.config,
            record=found.record,
            mounts=[
                bundle_wire.Mount(type=mount.type, source=mount.source, target=mount.target, options=[*mount.options])
                for mount in found.mounts
            ],
            terminal=found.terminal,
        )

    async def remove(self, context: Context, request: wire.BundleRemove, progress: Progress) -> Empty:
        """Answer ``bundle.remove``."""
        await self._known.remove(context.namespace, request.directory)
        return Empty()


def _check_one(container_id: str | None, directory: str) -> None:
    if (container_id is None) == (not directory):
        raise InvalidArgument("find bundle: name either a container or a directory")


def _check_spec(spec: ContainerSpec) -> None:
    if others := sorted(set(spec.model_dump(exclude_defaults=True)) & _OF_A_CONFIG):
        raise InvalidArgument(f"create bundle: {', '.join(others)} can't be said in a config.json")


def _told(progress: Progress, step: wire.Step) -> Told:
    return lambda done, total: progress(wire.BundleProgress(step=step, done_bytes=done, total_bytes=total))


def _layer(news: LayerReport) -> wire.BundleProgress:
    return wire.BundleProgress(layer=layer_progress(news))


def _made(made: Made) -> wire.BundleMade:
    return wire.BundleMade(
        directory=made.created.path,
        image=made.created.image,
        image_digest=made.created.digest or None,
        args=[*made.args],
        size_bytes=made.file_bytes,
    )


def _row(row: Listed) -> wire.BundleSummary:
    return wire.BundleSummary(
        path=row.path,
        kind=row.kind,
        image=row.image,
        image_digest=row.digest or None,
        created_at=row.created_at,
        containers=[*row.containers],
        missing=row.missing,
    )
