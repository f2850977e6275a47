"""A pull: resolve, fetch everything, make it visible, and only then give the image its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import FailedPrecondition, Unavailable
from hythe.holding import Held
from hythe.oci import Descriptor, Platform, layers_with_diff_ids
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.bringing import Bringer
from hythe_distribution.claiming import MAX_ATTEMPTS, ImageNames, claim
from hythe_distribution.documents import has_blob
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.holding import publish_held, references
from hythe_distribution.hosts import source_of
from hythe_distribution.image_labels import Brought
from hythe_distribution.publishing import Publisher
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolved, Resolver
from hythe_distribution.verification import ImageVerifier, verify_image
from hythe_distribution.workers import Workers

ForeignLayers = Literal["refuse", "fetch"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pull is asked for.

    Attributes:
        platform: this host's by default.
        all_platforms: bring every entry of an index.
        foreign_layers: what to do with layers that lie at URLs outside the registry.
        referrers: bring what the registry says is about the image.
    """

    reference: Reference
    platform: Platform | None = None
    all_platforms: bool = False
    plain_http: bool = False
    foreign_layers: ForeignLayers = "refuse"
    referrers: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """Result of a pull; `fetched_bytes` came over the network beside documents, the rest was here.

    Attributes:
        referrers: roots of what was brought along.
    """

    image: Resolved
    fetched_bytes: int
    referrers: tuple[Digest, ...] = ()


Report = Callable[[Resolved | BlobProgress], None]


class Puller:
    """Carries out pulls; several at once share their downloads."""

    def __init__(
        self,
        resolver: Resolver,
        bringer: Bringer,
        referrers: Referrers,
        content: Content,
        publisher: Publisher,
        names: ImageNames,
        verifier: ImageVerifier | None,
        workers: Workers,
    ) -> None:
        """Ask `verifier`, if there is one, before anything but documents is fetched."""
        self._resolver = resolver
        self._bringer = bringer
        self._referrers = referrers
        self._content = content
        self._publisher = publisher
        self._names = names
        self._verifier = verifier
        self._workers = workers

    async def pull(self, namespace: str, wish: Wish, held: Held, report: Report) -> Pulled:
        """Bring all content of an image into the store, make it visible in the namespace, and register its name.

        The name is registered only if every blob arrived, was verified and is still there once it is visible, and only
        over the record that was there before the registry was asked: an older resolve never overwrites a newer one. When
        another pull was faster, or a blob was deleted meanwhile, all is done again, three times in all.

        Before anything is stored, or it is asked what is here, all of the image is referred to: one transaction for the
        documents of an image and one for what is about it. The name ends the lease.

        Args:
            report: told `Resolved` once, as soon as manifest and config are in the store, then each blob's progress.

        Raises:
            Unavailable: metadata is away (before anything is fetched), or the registry; or blobs were deleted three times.
            Conflict: the name was changed by others three times meanwhile.
            PermissionDenied: a verifier refuses the image.
            FailedPrecondition: it has foreign layers, and they are not wanted.
            ResourceExhausted: no room for the layers; said before the first is fetched.
            HytheError: see `Resolver.resolve` and `Bringer.bring`.
        """
        fetched_bytes, reference = 0, wish.reference
        for attempt in range(MAX_ATTEMPTS):
            before = await self._names.get(namespace, reference)
            image = await self._resolver.resolve(
                reference, wish.platform, wish.plain_http, all_platforms=wish.all_platforms
            )
            await verify_image(self._verifier, reference, image.target)
            brought = _brought(wish, image)
            await held.refer(references((brought,)))
            await self._resolver.keep(image.tree, image.images)
            await self._workers.run(None, self._check, wish, image)
            if attempt == 0:
                report(image)
            fetched_bytes += await self._bring(wish, image, report)
            about = await self._bring_referrers(wish, image, brought, held, report)
            fetched_bytes += about.fetched_bytes
            if not await publish_held(self._publisher, held, namespace, (brought, *about.brought)):
                continue
            last = attempt + 1 == MAX_ATTEMPTS
            if await claim(self._names, namespace, reference, image.target, before, held, last=last):
                return Pulled(image, fetched_bytes, tuple(tree.tree.root.digest for tree in about.brought))
        raise Unavailable(f"pull {reference}: its blobs are deleted as fast as they are fetched")

    def _check(self, wish: Wish, image: Resolved) -> None:
        absent = [blob for blob in _blobs(image) if not has_blob(self._content, blob.digest)]
        if wish.foreign_layers == "refuse":
            for layer in image.tree.foreign:
                if layer in absent:
                    raise _refused(wish.reference, layer)
        if absent:
            self._content.check_room(sum(blob.size_bytes for blob in absent))

    async def _bring(self, wish: Wish, image: Resolved, report: Report) -> int:
        with tracing.span("fetch layers", oci__layers=sum(len(found.layers) for found in image.images)):
            configs = {found.config.digest for found in image.images}
            return await self._bringer.bring(
                source_of(wish.reference, wish.plain_http),
                [blob for blob in image.tree.blobs if blob.digest not in configs],
                image.tree.opaque,
                image.tree.foreign,
                report,
            )

    async def _bring_referrers(self, wish: Wish, image: Resolved, own: Brought, held: Held, report: Report) -> _About:
        if not wish.referrers:
            return _About((), 0)
        subjects = dict.fromkeys((image.target.digest, *(found.manifest.digest for found in image.images)))
        brought = await self._referrers.trees(wish.reference, wish.plain_http, tuple(subjects))
        source, fetched_bytes = source_of(wish.reference, wish.plain_http), 0
        if brought:
            await held.refer(references((own, *brought)))
        for about in brought:
            await self._resolver.keep(about.tree)
            fetched_bytes += await self._bringer.bring(source, about.tree.blobs, about.tree.opaque, (), report)
        return _About(brought, fetched_bytes)


@dataclass(frozen=True, slots=True)
class _About:
    brought: Sequence[Brought]
    fetched_bytes: int


def _blobs(image: Resolved) -> Iterator[Descriptor]:
    yield from image.tree.blobs
    yield from image.tree.opaque
    yield from image.tree.foreign


def _brought(wish: Wish, image: Resolved) -> Brought:
    diff_ids = {
        layer.digest: diff_id
        for found in image.images
        for layer, diff_id in layers_with_diff_ids(found.manifest, found.config)
    }
    source = source_of(wish.reference, wish.plain_http)
    return Brought(image.tree, (source,), diff_ids, foreign=image.tree.foreign)


def _refused(reference: Reference, layer: Descriptor) -> FailedPrecondition:
    return FailedPrecondition(
        f"pull {reference}: layer {layer.digest} is a foreign layer, which lies outside the registry",
        cause=f"its manifest names {len(layer.urls)} URLs",
        next_step="to have it fetched from there without credentials, use --foreign-layers fetch",
        details={"kind": "foreign layer"},
    )
