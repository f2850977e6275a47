"""Making sure that one blob of an image is on this host, whatever kind of blob it is.

Who asks holds the image already, so no lease is made for it: a container's record keeps the image that it is made from, and
of an image that is just being pulled, the lease of the pull does until its name does. What is found here all the same to be
gone when it is opened is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hythe.errors import Unimplemented
from hythe.oci import Descriptor
from hythe.oci.media_types import DOCUMENT_TYPES
from hythe.ports.content import Content
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.fetcher import BlobProgress, Fetcher, Watch
from hythe_distribution.hosts import Source
from hythe_distribution.resolver import Resolver
from hythe_distribution.workers import Workers

_MANIFESTS = DOCUMENT_TYPES | {""}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a whole, verified blob lies on this host; valid until it is deleted.

    Attributes:
        path: None where content is no files of this host.
    """

    path: Path | None
    size_bytes: int


class Ensurer:
    """Answers the question for one blob."""

    def __init__(self, fetcher: Fetcher, resolver: Resolver, content: Content, questions: Workers) -> None:
        self._fetcher = fetcher
        self._resolver = resolver
        self._content = content
        self._questions = questions

    async def ensure(self, source: Source, descriptor: Descriptor, watch: Watch) -> Location:
        """Return where a blob lies once it is here, whole and verified.

        Args:
            descriptor: what is wanted. An empty media type means a manifest or index; of those the size is not
                believed, for the digest says all.
            watch: told how the download goes, if there is one; see `Fetcher.ensure`.

        Raises:
            HytheError: see `Fetcher.ensure` and `Resolver.ensure_manifest`.
        """
        digest = descriptor.digest
        if descriptor.media_type not in _MANIFESTS:
            await self._fetcher.ensure(source, descriptor, watch)
            return await self._questions.run(None, self._locate, descriptor)
        cancellation = Cancellation()
        fetched = await self._questions.run(cancellation, self._resolver.ensure_manifest, source, digest, cancellation)
        found = await self._questions.run(None, self._locate, descriptor)
        watch(BlobProgress(digest, "fetched" if fetched else "exists", found.size_bytes, found.size_bytes))
        return found

    def _locate(self, descriptor: Descriptor) -> Location:
        size_bytes = self._content.info(descriptor.digest).size_bytes
        try:
            return Location(self._content.locate(descriptor.digest), size_bytes)
        except Unimplemented:
            return Location(None, size_bytes)
