"""What is about an image: signatures, SBOMs and attestations that a registry or a namespace knows of."""

from __future__ import annotations

from collections.abc import Sequence

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import NotFound, ResourceExhausted
from hythe.oci import Descriptor, Platform
from hythe.reference import Reference
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.gathering import all_of
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.image_labels import Brought
from hythe_distribution.registry import Registry
from hythe_distribution.resolver import Resolver
from hythe_distribution.tree import everything, is_document
from hythe_distribution.workers import Workers

MAX_REFERRERS = 100


class Referrers:
    """Asks registries what is about an image, one step deep: what is about a signature is not asked for."""

    def __init__(self, registry: Registry, resolver: Resolver, workers: Workers) -> None:
        self._registry = registry
        self._resolver = resolver
        self._workers = workers

    async def list(self, source: Source, subject: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what the registry says is about `subject`.

        Raises:
            HytheError: see `hythe_distribution.registry.Registry.referrers`.
        """
        cancellation = Cancellation()
        return await self._workers.run(
            cancellation, self._registry.referrers, source, subject, artifact_type, cancellation
        )

    async def about(
        self, reference: Reference, platform: Platform | None, plain_http: bool, artifact_type: str
    ) -> tuple[Digest, tuple[Descriptor, ...]]:
        """Return what the registry says is about what `reference` means now, or about its manifest for `platform`.

        Args:
            artifact_type: only those of this type; empty for all.

        Returns:
            The digest that was asked about, and the manifests about it.

        Raises:
            HytheError: see `hythe_distribution.resolver.Resolver.subject` and `list`.
        """
        subject = await self._resolver.subject(reference, platform, plain_http)
        return subject, await self.list(source_of(reference, plain_http), subject, artifact_type)

    async def trees(self, reference: Reference, plain_http: bool, subjects: Sequence[Digest]) -> tuple[Brought, ...]:
        """Return the trees of what is about `subjects`; nothing is stored yet.

        Passed over is what the registry lists and doesn't have any more, what is no manifest, and what on looking is not
        about the subject: lists under a tag may be old.

        Raises:
            ResourceExhausted: there are more than 100.
            HytheError: see `hythe_distribution.resolver.Resolver.tree`.
        """
        source = source_of(reference, plain_http)
        with tracing.span("fetch referrers", hythe__subjects=len(subjects)) as span:
            lists = await all_of(self.list(source, subject) for subject in subjects)
            found = {
                entry.digest: (subject, entry)
                for subject, entries in zip(subjects, lists, strict=True)
                for entry in entries
                if is_document(entry)
            }
            if len(found) > MAX_REFERRERS:
                raise ResourceExhausted(
                    f"fetch referrers of {reference}: there are {len(found)}, more than {MAX_REFERRERS}",
                    next_step="leave --referrers out, and fetch those that you need by digest",
                )
            trees = await all_of(self._tree(reference, plain_http, subject, entry) for subject, entry in found.values())
            kept = tuple(tree for tree in trees if tree is not None)
            span.set("hythe.referrers", len(kept))
            span.set("hythe.passed_over", len(trees) - len(kept))
            return kept

    async def _tree(self, reference: Reference, plain_http: bool, subject: Digest, entry: Descriptor) -> Brought | None:
        by_digest = Reference(reference.host, reference.repository, None, entry.digest)
        try:
            tree = await self._resolver.tree(by_digest, plain_http, everything)
        except NotFound:
            return None
        if tree.root.subject is None or tree.root.subject.digest != subject:
            return None
        return Brought(tree, (source_of(reference, plain_http),), subject=subject)
