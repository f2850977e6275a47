"""Making what was brought visible in a namespace, durably, before anything there points to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.ports.content import Content
from hythe_distribution.documents import has_blob
from hythe_distribution.image_labels import Brought, publications
from hythe_distribution.records import Publication, Records
from hythe_distribution.workers import Workers

Publish = Callable[[str, Sequence[Publication]], None]


class Publisher:
    """Publishes trees of blobs with the labels that keep and explain them."""

    def __init__(self, content: Content, records: Records, workers: Workers, publish: Publish) -> None:
        """Publish by `publish`, which is `Library.publish` of the process that owns both, in threads of `workers`."""
        self._content = content
        self._records = records
        self._workers = workers
        self._publish = publish

    async def publish(self, namespace: str, brought: Sequence[Brought]) -> bool:
        """Make all blobs of these trees visible, durable when this returns; tell whether all of them are still here.

        What is visible isn't deleted any more; what was deleted just before is found by looking again, and then the
        caller brings it again before it points to it. Repeating it is safe.

        Raises:
            HytheError: see `hythe_distribution.namespace_store.Library.publish`.
        """
        return await self._workers.run(None, self._publish_all, namespace, brought)

    async def labels(self, namespace: str, digest: Digest) -> Mapping[str, str]:
        """Return the labels of a blob, none where the namespace doesn't see it."""
        return await self._workers.run(None, self.labels_now, namespace, digest)

    def labels_now(self, namespace: str, digest: Digest) -> Mapping[str, str]:
        """As `labels`; blocks."""
        try:
            return self._records.get(namespace, digest).labels
        except NotFound:
            return {}

    def _publish_all(self, namespace: str, brought: Sequence[Brought]) -> bool:
        blobs = publications(brought, lambda digest: self.labels_now(namespace, digest))
        try:
            self._publish(namespace, blobs)
        except NotFound:
            return False
        return all(has_blob(self._content, blob.digest) for blob in blobs)  # another host may own the same bucket
