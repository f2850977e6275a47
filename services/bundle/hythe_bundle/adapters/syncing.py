"""Making a file system durable for all who ask at about the same time: one syncfs runs, one waits (ARCHITECTURE §5 †)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hythe import durable, tracing
from hythe.linux.files import sync_file_system
from hythe_bundle.adapters import disk_errors


class Syncing:
    """syncfs of one file system."""

    def __init__(self, root: Path, *, enabled: bool = True) -> None:
        """Sync the file system of `root`; without `enabled` do nothing, and lose what a power loss takes."""
        self._root = root
        self._enabled = enabled
        self._running: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._early: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have written what there is, unless a sync is in progress: less is left for the one that somebody waits for."""
        busy = (task is not None and not task.done() for task in (self._running, self._waiting, self._early))
        if self._enabled and not any(busy):
            self._early = asyncio.get_running_loop().create_task(asyncio.to_thread(self._sync))

    async def sync(self, layers: int = 1) -> None:
        """Return when all that was written before the call is durable; `layers` are told to the span.

        Raises:
            HytheError: see `disk_errors.of_os`.
        """
        if not self._enabled:
            return
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._next(self._running))
        with tracing.span("syncfs", hythe__layers=layers):
            await asyncio.shield(self._waiting)
            durable.count_sync()

    async def _next(self, running: asyncio.Task[None] | None) -> None:
        before = [task for task in (running, self._early) if task is not None]
        if before:
            await asyncio.wait(before)
        self._running, self._waiting = self._waiting, None
        early, self._early = self._early, None
        if early is not None:
            early.result()  # what could not be written is told by the kernel once
        await asyncio.to_thread(self._sync)

    async def settle(self) -> None:
        """Return when nothing that was begun is in progress."""
        if self._early is not None and not self._early.done():
            await asyncio.wait([self._early])

    async def close(self) -> None:
        """Let what was begun come to its end; what it met is of no use any more."""
        await self.settle()
        if self._early is not None and not self._early.cancelled():
            self._early.exception()

    def _sync(self) -> None:
        with disk_errors.translated("syncfs", self._root):
            sync_file_system(self._root)
