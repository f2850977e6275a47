"""``image.import`` and ``image.export``: the order over the bus, the archive over HTTP."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from hythe import asking, tracing
from hythe.asking import Asker
from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.holding import Held, Holder
from hythe.oci import Descriptor
from hythe.ports.content import Content
from hythe.ports.leases import Referred
from hythe.reference import Reference, parse_reference
from hythe.wire import images as wire
from hythe_distribution.adapters.http.request import Request
from hythe_distribution.adapters.http.server import HttpServer
from hythe_distribution.archive.compression import Codec
from hythe_distribution.archive.exportable import ExportOptions
from hythe_distribution.archive.exporting import check_exportable, export_archive
from hythe_distribution.archive.importing import Imported, ImportOptions, import_archive
from hythe_distribution.archive_transfers import Orders
from hythe_distribution.catalogue import Catalogue
from hythe_distribution.catalogue_handlers import summary_message
from hythe_distribution.convert import platform_of
from hythe_distribution.holding import references_of
from hythe_distribution.namespace_store import Library
from hythe_distribution.tickets import LIFETIME_S
from hythe_distribution.workers import Workers

READ_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _ImportOrder:
    namespace: str
    asker: Asker
    lease: str
    options: ImportOptions


@dataclass(frozen=True, slots=True)
class _ExportOrder:
    namespace: str
    lease: str
    roots: tuple[tuple[Reference | None, Descriptor], ...]
    options: ExportOptions
    size_bytes: int


class ArchiveHandlers:
    """The endpoints and routes of archives."""

    def __init__(
        self,
        library: Library,
        content: Content,
        catalogue: Catalogue,
        server: HttpServer,
        workers: Workers,
        zstd: Codec | None,
        holder: Holder,
    ) -> None:
        """Find images in threads of `workers`; without `zstd` archives compressed so are refused."""
        self._library = library
        self._content = content
        self._catalogue = catalogue
        self._server = server
        self._workers = workers
        self._zstd = zstd
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._imports: Orders[_ImportOrder] = Orders(LIFETIME_S)
        self._exports: Orders[_ExportOrder] = Orders(LIFETIME_S)

    def register(self, service: Service) -> None:
        """Add the endpoints to `service` and the routes to the HTTP server."""
        service.unary("image", "import", wire.ImageImport, self.image_import, scope="any")
        service.unary("image", "export", wire.ImageExport, self.image_export, scope="any")
        self._server.route("POST", "imports", self.receive)
        self._server.route("GET", "exports", self.send)

    async def image_import(self, context: Context, request: wire.ImageImport) -> wire.TransferAddress:
        """Answer ``image.import``."""
        options = ImportOptions(
            reference=parse_reference(request.reference) if request.reference else None,
            platform=platform_of(request.platform),
            all_platforms=request.all_platforms and not request.platform,
            zstd=self._zstd,
        )
        order = self._imports.put(_ImportOrder(context.namespace, context.asker, context.request_id, options))
        return wire.TransferAddress(url=self._server.address("POST", "imports", order), lifetime_s=LIFETIME_S)

    async def image_export(self, context: Context, request: wire.ImageExport) -> wire.TransferAddress:
        """Answer ``image.export``."""
        options = ExportOptions(
            format=request.format,
            platform=platform_of(request.platform),
            all_platforms=request.all_platforms,
        )
        found = [await self._catalogue.lookup.find(context.namespace, text) for text in request.images]
        roots = tuple((image.reference if image.name else None, image.target) for image in found)
        async with self._holder.hold(context.namespace, context.request_id) as held:
            await held.refer([Referred(target.digest) for _, target in roots])
            size_bytes = await self._workers.run(None, check_exportable, roots, self._content, options)
            async with held.handed_over() as lease:  # who fetches the archive takes it up, or it runs out
                order = self._exports.put(_ExportOrder(context.namespace, lease, roots, options, size_bytes))
        return wire.TransferAddress(url=self._server.address("GET", "exports", order), lifetime_s=LIFETIME_S)

    def receive(self, request: Request) -> None:
        """Take in an archive and register its images; answers `ImageImported`.

        What is in an archive isn't known before its end. So all of it is referred to then, and that it is still there is
        seen when it is made visible, after that; when metadata is away, nothing of it is read.

        Raises:
            HytheError: see `import_archive`; blobs that were whole before stay, seen by no namespace.
        """
        order = self._imports.take(request.name)
        tracing.namespace.set(order.namespace)
        stream = cast(BinaryIO, io.BufferedReader(request.body, READ_BYTES))
        with (
            asking.working_for(order.asker),
            self._held(order, []) as held,
            self._library.hold([None]),  # a blob that is here already stays, whoever else deletes it meanwhile
        ):
            imported = import_archive(stream, self._content, order.options)
            answer = self._await(self._register(order, imported, held))
        request.answer(200, answer.model_dump_json().encode())

    async def _register(self, order: _ImportOrder, imported: Imported, held: Held) -> wire.ImageImported:
        listing = self._catalogue.listing
        await held.refer(references_of(imported.publications))
        whole = False
        while not whole:
            await self._workers.run(None, self._library.publish, order.namespace, imported.publications)
            whole = await held.confirm()
        images = [
            summary_message(await listing.register(order.namespace, image.reference, image.target))
            for image in imported.images
        ]
        return wire.ImageImported(
            format=imported.format, images=images, blobs=imported.blobs, size_bytes=imported.size_bytes
        )

    def send(self, request: Request) -> None:
        """Send an archive of what was ordered; an error breaks it off before its end."""
        order = self._exports.take(request.name)
        tracing.namespace.set(order.namespace)
        with self._held(order, [Referred(target.digest) for _, target in order.roots]):
            chunks = export_archive(order.roots, self._content, order.options)
            request.send_chunks(chunks, {"Content-Type": "application/x-tar"}, size_bytes=order.size_bytes)

    @contextmanager
    def _held(self, order: _ImportOrder | _ExportOrder, contents: Sequence[Referred]) -> Iterator[Held]:
        """Hold `contents` for a block in a thread."""
        held = self._holder.open(order.namespace, order.lease)
        try:
            self._await(held.refer(contents))
            yield held
        finally:
            self._loop.call_soon_threadsafe(held.end)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
