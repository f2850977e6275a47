"""Fetching an artifact: a manifest that is no container image, brought with all its content and given its name."""

from __future__ import annotations

from dataclasses import dataclass

from hythe import tracing
from hythe.errors import InvalidArgument, Unavailable
from hythe.holding import Held
from hythe.oci import Descriptor, Manifest
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.bringing import Bringer
from hythe_distribution.claiming import MAX_ATTEMPTS, ImageNames, claim
from hythe_distribution.documents import has_blob
from hythe_distribution.fetcher import Watch
from hythe_distribution.holding import publish_held, references
from hythe_distribution.hosts import source_of
from hythe_distribution.image_labels import Brought
from hythe_distribution.publishing import Publisher
from hythe_distribution.resolver import Resolver
from hythe_distribution.tree import Tree, everything
from hythe_distribution.verification import ImageVerifier, verify_image
from hythe_distribution.workers import Workers


@dataclass(frozen=True, slots=True)
class FetchedArtifact:
    """What a name points to now; `fetched_bytes` came over the network beside documents."""

    reference: Reference
    target: Descriptor
    fetched_bytes: int


class ArtifactFetcher:
    """Carries out fetches; several at once share their downloads."""

    def __init__(
        self,
        resolver: Resolver,
        bringer: Bringer,
        content: Content,
        publisher: Publisher,
        names: ImageNames,
        verifier: ImageVerifier | None,
        workers: Workers,
    ) -> None:
        """Ask `verifier`, if there is one, before anything but documents is fetched."""
        self._resolver = resolver
        self._bringer = bringer
        self._content = content
        self._publisher = publisher
        self._names = names
        self._verifier = verifier
        self._workers = workers

    async def fetch(
        self, namespace: str, reference: Reference, artifact_type: str, plain_http: bool, held: Held, watch: Watch
    ) -> FetchedArtifact:
        """Bring all content of an artifact into the store, make it visible in the namespace, and register its name.

        As in a pull, a name is registered only once all is there, and never over what somebody pointed it to meanwhile.

        Raises:
            InvalidArgument: it is an index, or of another type than `artifact_type`.
            Conflict: the name was changed by others three times meanwhile.
            Unavailable: metadata is away (before anything is fetched), or the registry; or blobs were deleted three times.
            HytheError: see `Resolver.tree` and `Bringer.bring`.
        """
        fetched_bytes, source = 0, source_of(reference, plain_http)
        for attempt in range(MAX_ATTEMPTS):
            before = await self._names.get(namespace, reference)
            tree = await self._resolver.tree(reference, plain_http, everything)
            _check_type(reference, tree, artifact_type)
            target = tree.root.descriptor
            await verify_image(self._verifier, reference, target)
            brought = Brought(tree, (source,), {}, foreign=tree.foreign)
            await held.refer(references((brought,)))
            await self._resolver.keep(tree)
            await self._workers.run(None, self._check_room, tree)
            with tracing.span("fetch layers", oci__layers=len(tree.blobs)):
                fetched_bytes += await self._bringer.bring(source, tree.blobs, tree.opaque, tree.foreign, watch)
            if not await publish_held(self._publisher, held, namespace, (brought,)):
                continue
            last = attempt + 1 == MAX_ATTEMPTS
            if await claim(self._names, namespace, reference, target, before, held, last=last):
                return FetchedArtifact(reference, target, fetched_bytes)
        raise Unavailable(f"fetch {reference}: its blobs are deleted as fast as they are fetched")

    def _check_room(self, tree: Tree) -> None:
        absent = [blob.size_bytes for blob in tree.blobs if not has_blob(self._content, blob.digest)]
        if absent:
            self._content.check_room(sum(absent))


def _check_type(reference: Reference, tree: Tree, artifact_type: str) -> None:
    root = tree.root
    if isinstance(root, Manifest) and (root.artifact_type or root.config.media_type) == artifact_type:
        return
    found = root.artifact_type or (root.config.media_type if isinstance(root, Manifest) else root.media_type)
    raise InvalidArgument(
        f"fetch {reference}: it is a {found[:100]}, not a {artifact_type[:100]}",
        next_step="`hythe pull` fetches images",
    )
