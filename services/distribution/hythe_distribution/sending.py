"""Sending a tree to a registry: blobs side by side, then documents from the bottom up, the root last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hythe import tracing
from hythe.digest import Digest
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.gathering import all_of
from hythe_distribution.hosts import Source
from hythe_distribution.progress import SendProgress, SendWatch, Teller
from hythe_distribution.registry import PushOutcome, Registry
from hythe_distribution.tree import Node, Tree
from hythe_distribution.workers import Workers

Read = Callable[[Descriptor, int, Cancellation], Iterator[bytes]]
"""Gives the bytes of a blob from an offset on; called in a thread, only when the registry needs them."""
MountFrom = Callable[[Digest], Sequence[str]]
"""Gives repositories of the same registry that may have a blob; called in a thread."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the blobs and documents: bytes that were sent, and how many blobs needed none."""

    sent_bytes: int = 0
    mounted: int = 0
    existing: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.sent_bytes + other.sent_bytes, self.mounted + other.mounted, self.existing + other.existing)


class Sender:
    """Sends trees; as many blobs at once as it has threads."""

    def __init__(self, registry: Registry, uploads: Workers) -> None:
        self._registry = registry
        self._uploads = uploads

    async def send(
        self, target: Source, tree: Tree, version: str, read: Read, mount_from: MountFrom, watch: SendWatch
    ) -> Sent:
        """Make the registry have all of `tree`, its root by `version`; foreign layers stay where they are.

        A document is put only when all below it is there, so a push that breaks off leaves no tag that points to
        something incomplete. Repeating it sends only what is missing.

        Args:
            version: a tag, or the digest of the root.

        Raises:
            HytheError: see `hythe_distribution.registry.Registry`; the blobs still on their way are given up then.
        """
        cancellation = Cancellation()
        named_manifests = [entry for entry in tree.opaque if _names_a_manifest(entry)]
        blobs = [*tree.blobs, *(entry for entry in tree.opaque if not _names_a_manifest(entry))]
        for blob in blobs:
            watch(SendProgress(blob.digest, "waiting", 0, blob.size_bytes))
        with tracing.span("push blobs", registry__host=target.host, hythe__blobs=len(blobs)):
            largest_first = sorted(blobs, key=lambda blob: -blob.size_bytes)
            outcomes = await all_of(
                self._send_blob(target, blob, read, mount_from, watch, cancellation) for blob in largest_first
            )
        sent = sum(outcomes, Sent())
        with tracing.span("push manifests", registry__host=target.host, hythe__manifests=len(tree.nodes)):
            for entry in named_manifests:
                sent += await self._send_opaque(target, entry, read, cancellation)
            for node in tree.nodes:
                as_what = version if node is tree.nodes[-1] else str(node.document.digest)
                sent += await self._send_document(target, node, as_what, cancellation)
        return sent

    async def _send_blob(
        self,
        target: Source,
        blob: Descriptor,
        read: Read,
        mount_from: MountFrom,
        watch: SendWatch,
        cancellation: Cancellation,
    ) -> Sent:
        teller = Teller(blob, watch)
        outcome = await self._uploads.run(
            cancellation, self._push, target, blob, read, mount_from, teller, cancellation
        )
        if outcome == "pushed":
            return Sent(sent_bytes=blob.size_bytes)
        return Sent(mounted=1) if outcome == "mounted" else Sent(existing=1)

    def _push(
        self,
        target: Source,
        blob: Descriptor,
        read: Read,
        mount_from: MountFrom,
        teller: Teller,
        cancellation: Cancellation,
    ) -> PushOutcome:
        cancellation.check()
        teller.tell("checking", 0)
        outcome = self._registry.push_blob(
            target,
            blob,
            lambda offset: read(blob, offset, cancellation),
            [name for name in mount_from(blob.digest) if name != target.repository],
            cancellation,
            lambda done_bytes: teller.tell("pushing", done_bytes),
        )
        teller.tell(outcome, blob.size_bytes)
        return outcome

    async def _send_document(self, target: Source, node: Node, version: str, cancellation: Cancellation) -> Sent:
        document = node.document
        subject = document.subject.digest if document.subject else None
        await self._uploads.run(
            cancellation,
            self._registry.push_manifest,
            target,
            version,
            document.raw,
            document.media_type,
            subject,
            cancellation,
        )
        return Sent(sent_bytes=len(document.raw))

    async def _send_opaque(self, target: Source, entry: Descriptor, read: Read, cancellation: Cancellation) -> Sent:
        def push() -> None:
            raw = b"".join(read(entry, 0, cancellation))
            self._registry.push_manifest(target, str(entry.digest), raw, entry.media_type, None, cancellation)

        await self._uploads.run(cancellation, push)
        return Sent(sent_bytes=entry.size_bytes)


def _names_a_manifest(entry: Descriptor) -> bool:
    """Tell whether an entry of an index is called a manifest by its type, though it is none that is understood here."""
    return "manifest" in entry.media_type
