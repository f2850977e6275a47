"""A pull: resolve, fetch everything, and only then give the image its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import Conflict, HytheError
from hythe.oci import Descriptor, Platform
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.documents import has_blob
from hythe_distribution.fetcher import BlobProgress, Fetcher
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.resolver import Resolved, Resolver
from hythe_distribution.workers import Workers

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a name points to, and the revision of its record; 0 and None where there is no record."""

    revision: int
    digest: Digest | None


class ImageNames(Protocol):
    """The names of images, kept by the metadata service."""

    async def get(self, namespace: str, reference: Reference) -> NameRecord:
        """Return what a name points to.

        Raises:
            Unavailable: metadata is away.
        """

    async def put(self, namespace: str, reference: Reference, target: Descriptor, if_revision: int) -> None:
        """Point a name at `target` if its record still has the revision `if_revision`.

        Raises:
            Conflict: it has another.
            Unavailable: metadata is away.
        """


@dataclass(frozen=True, slots=True)
class Pulled:
    """Result of a pull; `fetched_bytes` of layers came over the network, the rest was here."""

    image: Resolved
    fetched_bytes: int


Report = Callable[[Resolved | BlobProgress], None]


class Puller:
    """Carries out pulls; several at once share their downloads."""

    def __init__(
        self, resolver: Resolver, fetcher: Fetcher, content: Content, names: ImageNames, workers: Workers
    ) -> None:
        """Resolve in threads of `workers`; layers are fetched in the fetcher's own."""
        self._resolver = resolver
        self._fetcher = fetcher
        self._content = content
        self._names = names
        self._workers = workers

    async def pull(
        self, namespace: str, reference: Reference, platform: Platform | None, plain_http: bool, report: Report
    ) -> Pulled:
        """Bring all content of an image into the store and register its name.

        The name is registered only if every blob arrived and was verified, and only over the record that was there
        before the registry was asked: an older resolve never overwrites a newer one. When another pull was faster, the
        registry is asked again, three times in all.

        Args:
            report: told `Resolved` once, as soon as manifest and config are in the store, then each layer's progress.

        Raises:
            Unavailable: metadata is away (before anything is fetched), or the registry.
            Conflict: the name was changed by others three times meanwhile.
            ResourceExhausted: no room for the layers; said before the first is fetched.
            HytheError: see `Resolver.resolve` and `Fetcher.ensure`.
        """
        fetched_bytes = 0
        for attempt in range(MAX_ATTEMPTS):
            before = await self._names.get(namespace, reference)
            cancellation = Cancellation()
            image = await self._workers.run(
                cancellation, self._resolver.resolve, reference, platform, plain_http, cancellation
            )
            if attempt == 0:
                report(image)
            await self._workers.run(None, self._check_room, image)
            fetched_bytes += await self._fetch_layers(source_of(reference, plain_http), image, report)
            try:
                await self._names.put(namespace, reference, image.target, before.revision)
            except Conflict:
                now = await self._names.get(namespace, reference)
                if now.digest != image.target.digest and attempt + 1 == MAX_ATTEMPTS:
                    raise
                if now.digest != image.target.digest:
                    continue
            return Pulled(image, fetched_bytes)
        raise AssertionError("the last attempt returns or raises")

    def _check_room(self, image: Resolved) -> None:
        missing = [layer.size_bytes for layer in image.layers if not has_blob(self._content, layer.digest)]
        if missing:
            self._content.check_room(sum(missing))

    async def _fetch_layers(self, source: Source, image: Resolved, report: Report) -> int:
        """Fetch all layers at once, the largest first: it decides when the last one is done."""
        with tracing.span("fetch layers", oci__layers=len(image.layers)):
            largest_first = sorted(image.layers, key=lambda layer: -layer.size_bytes)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._fetcher.ensure(source, layer, report)) for layer in largest_first]
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            return sum(task.result() for task in tasks)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to report: a fault of ours before one that the closed set has a word for."""
    flat = [error for error in failures.exceptions if not isinstance(error, HytheError)]
    return (flat or list(failures.exceptions))[0]
