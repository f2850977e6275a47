"""Making something where a user wants it: whole or not at all, whatever ends the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe import failpoints, threads, tracing
from hythe.clock import now_rfc3339
from hythe.errors import HytheError
from hythe_bundle.carried import Source
from hythe_bundle.ledger import Created, Ground, Ledger

log = logging.getLogger(__name__)


class Making:
    """Makes directories and archives; one that is left unfinished by a crash is removed by the next start."""

    def __init__(self, ledger: Ledger, ground: Ground) -> None:
        self._ledger = ledger
        self._ground = ground

    async def recover(self) -> None:
        """Remove what the last process left unfinished; called once, before the first request."""
        for partial, path in self._ledger.unfinished():
            try:
                await asyncio.to_thread(self._ground.check_unmounted, partial)
                if inode := await asyncio.to_thread(self._ground.inode, partial):
                    await self._ledger.forget(path, inode)  # it never got its name
                await asyncio.to_thread(self._ground.remove, partial)
            except HytheError as error:
                log.warning("what was left unfinished stays until the next start: %s", error.message)
                continue
            log.info("removed what was left unfinished", extra={"at": partial})
            await self._ledger.end(partial)

    @asynccontextmanager
    async def unfinished(self, path: str, *, directory: bool) -> AsyncIterator[str]:
        """Give a place beside `path` to make it in; what is still there when the block ends is removed.

        Raises:
            AlreadyExists: `path` is to be a directory, and something is there.
            InvalidArgument, NotFound: see `Ground.partial_of`.
        """
        partial = await asyncio.to_thread(self._ground.partial_of, path)
        if directory:
            await asyncio.to_thread(self._ground.check_free, path)
        await self._ledger.begin(partial, path)
        try:
            yield partial
        finally:
            await asyncio.shield(self._clear(partial))

    async def _clear(self, partial: str) -> None:
        await asyncio.to_thread(self._ground.remove, partial)
        await self._ledger.end(partial)

    async def finish_directory(self, partial: str, path: str, namespace: str, source: Source) -> Created:
        """Give a bundle that is whole its name, durably, and record that Hythe made it.

        The record comes first. It lets nothing be removed but the very directory that it was made for.

        Raises:
            AlreadyExists: something has come to be at `path` meanwhile.
        """
        with tracing.span("syncfs"):
            await threads.run(lambda: self._ground.sync(partial))
        inode = await asyncio.to_thread(self._ground.inode, partial)
        created = Created(path, namespace, inode, source.reference, source.digest, now_rfc3339())
        await threads.until_end(self._place(partial, created))
        return created

    async def _place(self, partial: str, created: Created) -> None:
        before = self._ledger.find(created.path)
        await self._ledger.put(created)
        failpoints.reach("bundle.directory.recorded")
        try:
            await asyncio.to_thread(self._ground.place, partial, created.path)
        except HytheError:
            await self._ledger.forget(created.path, created.inode)
            if before is not None:
                await self._ledger.put(before)
            raise

    async def finish_file(self, partial: str, path: str) -> None:
        """Give an archive that is whole its name, durably."""
        await threads.run(lambda: self._ground.sync(partial))
        await threads.run(lambda: self._ground.place(partial, path))
