"""Committing layers: those that wait together share one inheritance pass in order, one syncfs and one transaction."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hythe import failpoints, tracing
from hythe.errors import HytheError
from hythe.linux.files import sync_file_system
from hythe.ports.snapshots import NO_PARENT
from hythe_bundle.adapters import disk_errors, snapshot_records
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.inheritance import inherit
from hythe_bundle.adapters.snapshot_records import SnapshotRecords


@dataclass(slots=True)
class LayerCommit:
    """One layer that waits to be committed.

    Attributes:
        number: number of its directory.
        ended: done when it is committed, or has failed.
    """

    number: int
    name: str
    parent: str
    implied: Sequence[bytes]
    opaque: bool
    labels: Mapping[str, str] | None
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class LayerCommits:
    """Takes layers in any order and commits each once what lies below it is committed, or is in the same round.

    One round runs at a time, so at most one syncfs runs and what comes meanwhile waits for the next (ARCHITECTURE §5 †).
    """

    def __init__(
        self, root: Path, directory_of: Callable[[int], Path], database: Database, records: SnapshotRecords
    ) -> None:
        """Commit layers whose directories `directory_of` tells by number, all on the file system of `root`."""
        self._root = root
        self._directory_of = directory_of
        self._database = database
        self._records = records
        self._waiting: dict[int, LayerCommit] = {}
        self._batch: list[LayerCommit] = []
        self._round: asyncio.Task[dict[int, HytheError]] | None = None

    def add(self, commit: LayerCommit) -> None:
        """Let a layer wait for its turn; ``commit.ended`` tells when it is over."""
        self._waiting[commit.number] = commit
        self._start_round()

    def withdraw(self, commit: LayerCommit) -> bool:
        """Take back a layer whose round has not begun; return whether that was so."""
        return self._waiting.pop(commit.number, None) is not None

    async def close(self) -> None:
        """Wait until the round in progress is over."""
        if self._round is not None:
            await asyncio.wait([self._round])

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

    def _ready(self) -> list[LayerCommit]:
        """Return what can be committed now, lowest first, and of one name only one."""
        batch: list[LayerCommit] = []
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

    async def _run(self, batch: list[LayerCommit]) -> dict[int, HytheError]:
        """Commit all of `batch` and return, by number, why some of it could not be."""
        await asyncio.to_thread(self._inherit, batch, [self._lower(commit, batch) for commit in batch])
        failpoints.reach("bundle.layer.inherited")
        with tracing.span("syncfs", hythe__layers=len(batch)):
            await asyncio.to_thread(self._sync)
        failpoints.reach("bundle.layer.synced")
        return await self._database.write(lambda connection: _insert(connection, batch))

    def _lower(self, commit: LayerCommit, batch: list[LayerCommit]) -> list[Path]:
        """Return the directories below a layer, topmost first."""
        if commit.opaque:
            return []
        lower = []
        by_name = {other.name: other for other in batch}
        parent = commit.parent
        while parent in by_name:
            below = by_name[parent]
            lower.append(self._directory_of(below.number))
            parent = NO_PARENT if below.opaque else below.parent
        return lower + [self._directory_of(number) for number in self._records.chain(parent)]

    def _inherit(self, batch: list[LayerCommit], lower: list[list[Path]]) -> None:
        with disk_errors.translated("commit snapshot", self._root):
            for commit, below in zip(batch, lower, strict=True):
                inherit(self._directory_of(commit.number), commit.implied, below)

    def _sync(self) -> None:
        with disk_errors.translated("syncfs", self._root):
            sync_file_system(self._root)


def _insert(connection: sqlite3.Connection, batch: list[LayerCommit]) -> dict[int, HytheError]:
    """Add the rows, lowest first; return why some could not be added. One failure doesn't stop what doesn't need it."""
    problems: dict[int, HytheError] = {}
    for commit in batch:
        try:
            snapshot_records.add(
                connection, commit.number, commit.name, "committed", commit.parent, commit.labels, opaque=commit.opaque
            )
        except HytheError as error:
            problems[commit.number] = error
    return problems
