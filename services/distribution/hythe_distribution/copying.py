"""A copy: from one registry to another by way of this host's content, never unpacked, and with no name here."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.holding import Held
from hythe.oci import Descriptor, Platform
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.bringing import Bringer
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.configs import is_image
from hythe_distribution.documents import has_blob
from hythe_distribution.fetcher import BlobProgress
from hythe_distribution.holding import publish_held, references
from hythe_distribution.hosts import source_of
from hythe_distribution.image_labels import Brought, repositories_in
from hythe_distribution.progress import SendWatch
from hythe_distribution.publishing import Publisher
from hythe_distribution.push import Pushed, check_target
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolver
from hythe_distribution.sending import Sender, Sent
from hythe_distribution.tree import Tree, everything, grow
from hythe_distribution.verification import ImageVerifier, verify_image
from hythe_distribution.workers import Workers

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """What a copy is asked for.

    Attributes:
        platform: copy the manifest for this platform alone; None copies all there is.
        referrers: copy what the source's registry says is about the image, too.
    """

    source: Reference
    target: Reference
    platform: Platform | None = None
    all_platforms: bool = False
    source_plain_http: bool = False
    target_plain_http: bool = False
    referrers: bool = False


class Copier:
    """Carries out copies."""

    def __init__(
        self,
        resolver: Resolver,
        bringer: Bringer,
        referrers: Referrers,
        content: Content,
        publisher: Publisher,
        sender: Sender,
        verifier: ImageVerifier | None,
        workers: Workers,
    ) -> None:
        """Look at content in threads of `workers`; fetching and sending have their own."""
        self._resolver = resolver
        self._bringer = bringer
        self._referrers = referrers
        self._content = content
        self._publisher = publisher
        self._sender = sender
        self._verifier = verifier
        self._workers = workers

    async def copy(self, namespace: str, order: CopyOrder, held: Held, watch: SendWatch) -> Pushed:
        """Make the target's registry have an image, byte for byte; only blobs that it lacks are fetched and sent.

        Where source and target are at one registry, blobs are mounted and don't travel. What came to this host is visible
        in the namespace then, and is collected when nothing there keeps it; until the copy has ended, `held` does.

        Raises:
            InvalidArgument: the target names another digest, or both one and all platforms are asked for.
            PermissionDenied: a verifier refuses the image.
            HytheError: see `Resolver.tree`, `Bringer.bring` and `Sender.send`.
        """
        if order.platform and order.all_platforms:
            raise InvalidArgument(f"copy {order.source}: one platform and all platforms exclude each other")
        tree = await self._tree(order)
        digest = tree.root.digest
        check_target("copy", order.target, digest)
        about: Sequence[Brought] = ()
        if order.referrers:
            subjects = dict.fromkeys((digest, *(node.document.digest for node in tree.manifests if is_image(node))))
            about = await self._referrers.trees(order.source, order.source_plain_http, tuple(subjects))
        await held.refer(references((Brought(tree, ()), *about)))
        for each in (tree, *(found.tree for found in about)):
            await self._resolver.keep(each)
        sent = await self._send(namespace, order, tree, order.target.tag or order.target.version, watch)
        for found in about:
            sent += await self._send(namespace, order, found.tree, str(found.tree.root.digest), watch)
        await self._publish(namespace, order, tree, about, held)
        return Pushed(str(order.target), digest, sent, tuple(found.tree.root.digest for found in about))

    async def _tree(self, order: CopyOrder) -> Tree:
        """Return what is to be copied, once its root is allowed."""
        if order.platform is None:
            tree = await self._resolver.tree(order.source, order.source_plain_http, everything)
            await verify_image(self._verifier, order.source, tree.root.descriptor)
            return tree
        image = await self._resolver.resolve(order.source, order.platform, order.source_plain_http)
        await verify_image(self._verifier, order.source, image.target)
        return grow(image.chosen.manifest.descriptor, lambda _: image.chosen.manifest, everything)

    async def _send(self, namespace: str, order: CopyOrder, tree: Tree, version: str, watch: SendWatch) -> Sent:
        source = source_of(order.source, order.source_plain_http)
        target = source_of(order.target, order.target_plain_http)
        loop = asyncio.get_running_loop()
        opaque = {entry.digest for entry in tree.opaque}

        def read(blob: Descriptor, offset: int, cancellation: Cancellation) -> Iterator[bytes]:
            blobs, entries = ((), (blob,)) if blob.digest in opaque else ((blob,), ())
            work = self._bringer.bring(source, blobs, entries, (), _unwatched)
            bringing = asyncio.run_coroutine_threadsafe(work, loop)

            def give_up() -> None:
                bringing.cancel()

            forget = cancellation.on_cancel(give_up)
            try:
                bringing.result()
            except concurrent.futures.CancelledError:
                raise Cancelled from None
            finally:
                forget()
            for chunk in self._content.read(blob.digest, offset):
                cancellation.check()
                yield chunk

        def mount_from(digest: Digest) -> Sequence[str]:
            own = (source.repository,) if source.host == target.host else ()
            known = repositories_in(self._publisher.labels(namespace, digest), target.host)
            return tuple(dict.fromkeys((*own, *known)))

        return await self._sender.send(target, tree, version, read, mount_from, watch)

    async def _publish(
        self, namespace: str, order: CopyOrder, tree: Tree, about: Sequence[Brought], held: Held
    ) -> None:
        sources = (
            source_of(order.source, order.source_plain_http),
            source_of(order.target, order.target_plain_http),
        )
        brought = [Brought(tree, sources), *(replace(found, sources=sources) for found in about)]
        for _ in range(MAX_ATTEMPTS):  # a blob may be deleted meanwhile, which takes nothing from the copy
            present = await self._workers.run(None, self._present, brought)
            if await publish_held(self._publisher, held, namespace, present):
                break

    def _present(self, brought: Sequence[Brought]) -> list[Brought]:
        """Return the trees with those of their blobs that have come to this host."""
        return [
            replace(
                found,
                tree=replace(
                    found.tree,
                    nodes=tuple(node for node in found.tree.nodes if has_blob(self._content, node.document.digest)),
                    blobs=tuple(blob for blob in found.tree.blobs if has_blob(self._content, blob.digest)),
                    opaque=tuple(entry for entry in found.tree.opaque if has_blob(self._content, entry.digest)),
                ),
            )
            for found in brought
        ]


def _unwatched(progress: BlobProgress) -> None:
    """A copy tells how the sending goes; fetching is a part of it."""
