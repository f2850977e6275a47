"""Stages: places that layers are applied to, from their making until they are committed or discarded."""

from __future__ import annotations

import asyncio

from hythe import threads
from hythe.ports.snapshots import Stage
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.commits import Commit, Commits
from hythe_bundle.adapters.layout import Layout
from hythe_bundle.adapters.places import Places
from hythe_bundle.adapters.syncing import Syncing


class Stages:
    """The stages of one snapshotter; see `hythe.ports.snapshots.Snapshotter` for what each step promises."""

    def __init__(self, layout: Layout, places: Places, commits: Commits, syncing: Syncing) -> None:
        self._layout = layout
        self._places = places
        self._commits = commits
        self._syncing = syncing
        self._stages: dict[str, Commit | None] = {}

    async def make(self) -> Stage:
        """See `Snapshotter.stage`."""
        number = self._places.new()
        place = self._places.path(number)
        try:
            with disk_errors.translated("make snapshot", self._places.root):
                mounts = await threads.run(lambda: self._layout.make_stage(place))
        except BaseException:
            await self._remove(number)
            raise
        self._stages[str(number)] = None
        return Stage(str(number), mounts)

    async def commit(self, stage: Stage, commit: Commit) -> None:
        """See `Snapshotter.commit_stage`."""
        self._stages[stage.key] = commit
        self._commits.add(commit)
        try:
            await asyncio.shield(commit.ended)
        except asyncio.CancelledError:
            if self._commits.withdraw(commit):
                self._stages[stage.key] = None
            raise
        del self._stages[stage.key]
        self._places.made(commit.number)

    async def discard(self, stage: Stage) -> None:
        """See `Snapshotter.discard`."""
        if stage.key not in self._stages:
            return
        commit = self._stages.pop(stage.key)
        if commit is not None:
            await asyncio.wait([commit.ended])
            if not commit.ended.cancelled() and commit.ended.exception() is None:
                self._places.made(commit.number)
                return
        await self._syncing.settle()  # a file gives its room back only when no sync looks at it any more
        await self._remove(int(stage.key))

    async def _remove(self, number: int) -> None:
        """Remove a place and wait until it is gone, if the caller can wait."""
        await asyncio.wait([self._places.remove_later(number)])
