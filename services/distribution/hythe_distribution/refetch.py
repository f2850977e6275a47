"""Bringing one blob back into the store from a repository that had it, whatever kind of blob it is."""

from __future__ import annotations

import asyncio

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.hosts import Source
from hythe_distribution.resolver import Resolver

_ANY_BLOB = "application/octet-stream"


class Refetcher:
    """A body of `hythe_distribution.content_check.Refetch`; called in threads other than the event loop's."""

    def __init__(self, fetcher: Fetcher, resolver: Resolver, loop: asyncio.AbstractEventLoop) -> None:
        self._fetcher = fetcher
        self._resolver = resolver
        self._loop = loop

    def __call__(self, source: Source, digest: Digest, size_bytes: int, cancellation: Cancellation) -> None:
        """See `Refetch`: asked for as a blob, and where there is none of that digest, as a manifest."""
        wanted = Descriptor(_ANY_BLOB, digest, size_bytes)
        work = asyncio.run_coroutine_threadsafe(self._fetcher.ensure(source, wanted, lambda news: None), self._loop)
        forget = cancellation.on_cancel(work.cancel)
        try:
            work.result()
        except NotFound:
            self._resolver.ensure_manifest(source, digest, cancellation)
        finally:
            forget()
