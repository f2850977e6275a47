"""Committing: what waits together is finished in order, then shares one syncfs and one transaction."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hythe import failpoints
from hythe.errors import HytheError
from hythe.ports.snapshots import NO_PARENT
from hythe_bundle.adapters import disk_errors, snapshot_changes
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.layout import Layout
from hythe_bundle.adapters.places import Places
from hythe_bundle.adapters.snapshot_events import Teller, stage_key
from hythe_bundle.adapters.snapshot_records import SnapshotRecords
from hythe_bundle.adapters.syncing import Syncing


@dataclass(slots=True)
class Commit:
    """A stage, or an active snapshot, that waits to be committed as `name`.

    Attributes:
        number: number of its place.
        key: name of the active snapshot; empty for a stage.
        teller: tells of it when it is committed.
        implied, opaque: see `Snapshotter.commit_stage`.
        ended: done when it is committed, or has failed.
    """

    number: int
    name: str
    parent: str
    labels: Mapping[str, str] | None
    teller: Teller
    key: str = ""
    implied: Sequence[bytes] = ()
    opaque: bool = False
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class Commits:
    """Takes commits in any order and does each once what lies below it is committed, or is in the same round.

    One round runs at a time; what comes meanwhile waits for the next.
    """

    def __init__(
        self, layout: Layout, places: Places, database: Database, records: SnapshotRecords, syncing: Syncing
    ) -> None:
        self._layout = layout
        self._places = places
        self._database = database
        self._records = records
        self._syncing = syncing
        self._waiting: dict[int, Commit] = {}
        self._batch: list[Commit] = []
        self._round: asyncio.Task[dict[int, HytheError]] | None = None

    def add(self, commit: Commit) -> None:
        """Let it wait for its turn; ``commit.ended`` tells when it is over."""
        self._waiting[commit.number] = commit
        self._start_round()
        self._syncing.begin()

    def withdraw(self, commit: Commit) -> bool:
        """Take back what no round has begun with; return whether that was so."""
        return self._waiting.pop(commit.number, None) is not None

    async def close(self) -> None:
        """Wait until the round in progress is over."""
        if self._round is not None:
            await asyncio.wait([self._round])
        await self._syncing.close()

    def _start_round(self) -> None:
        if self._round is not None:
            return
        self._batch = self._ready()
        if self._batch:
            for commit in self._batch:
                del self._waiting[commit.number]
            loop = asyncio.get_running_loop()
            self._round = loop.create_task(self._run(self._batch), context=self._batch[0].context)
            self._round.add_done_callback(self._end_round)

    def _end_round(self, task: asyncio.Task[dict[int, HytheError]]) -> None:
        """Tell each layer of the round what came of it, then go on with those that wait."""
        self._round = None
        failure = None if task.cancelled() else task.exception()
        problems = {} if task.cancelled() or failure else task.result()
        for commit in self._batch:
            if task.cancelled():
                commit.ended.cancel()
            elif problem := failure or problems.get(commit.number):
                commit.ended.set_exception(problem)
            else:
                commit.ended.set_result(None)
        self._start_round()

    def _ready(self) -> list[Commit]:
        """Return what can be committed now, lowest first, and of one name only one."""
        batch: list[Commit] = []
        names: set[str] = set()
        grew = True
        while grew:
            grew = False
            for commit in self._waiting.values():
                if commit.name in names:
                    continue
                if commit.parent in names or commit.parent == NO_PARENT or self._records.chain(commit.parent):
                    batch.append(commit)
                    names.add(commit.name)
                    grew = True
        return batch

    async def _run(self, batch: list[Commit]) -> dict[int, HytheError]:
        """Commit all of `batch` and return, by number, why some of it could not be."""
        below = [self._below(commit, batch) for commit in batch]
        with self._places.held(number for numbers in below for number in numbers):
            await asyncio.to_thread(self._finish, batch, below)
        failpoints.reach("bundle.snapshot.finished")
        await self._syncing.sync(len(batch))
        failpoints.reach("bundle.snapshot.synced")
        problems = await self._database.write(lambda connection: _record(connection, batch))
        failpoints.reach("bundle.snapshot.committed")
        for commit in batch:
            self._records.forget(commit.key)
        return problems

    def _below(self, commit: Commit, batch: list[Commit]) -> list[int]:
        """Return the numbers of what lies below, topmost first."""
        if commit.opaque:
            return []
        below = []
        by_name = {other.name: other for other in batch}
        parent = commit.parent
        while parent in by_name:
            under = by_name[parent]
            below.append(under.number)
            parent = NO_PARENT if under.opaque else under.parent
        return below + list(self._records.chain(parent))

    def _finish(self, batch: list[Commit], below: list[list[int]]) -> None:
        path = self._places.path
        with disk_errors.translated("commit snapshot", self._places.root):
            for commit, numbers in zip(batch, below, strict=True):
                if commit.key:
                    self._layout.seal(path(commit.number))
                else:
                    under = [path(number) for number in numbers]
                    self._layout.finish(path(commit.number), under, commit.implied, hides_below=commit.opaque)


def _record(connection: sqlite3.Connection, batch: list[Commit]) -> dict[int, HytheError]:
    """Change the rows, lowest first; return why some could not be. One failure doesn't stop what doesn't need it."""
    problems: dict[int, HytheError] = {}
    for commit in batch:
        try:
            if commit.key:
                snapshot_changes.commit(connection, commit.key, commit.name, commit.labels)
            else:
                snapshot_changes.add(
                    connection,
                    commit.number,
                    commit.name,
                    "committed",
                    commit.parent,
                    commit.labels,
                    opaque=commit.opaque,
                )
            commit.teller.committed(connection, commit.key or stage_key(commit.number, commit.name), commit.name)
        except HytheError as error:
            problems[commit.number] = error
    return problems
