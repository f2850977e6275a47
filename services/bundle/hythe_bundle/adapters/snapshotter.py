"""The engine of all snapshotters: records, numbers, commits and removals; how a snapshot lies on the disk a layout says."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from hythe import failpoints, threads
from hythe.errors import FailedPrecondition
from hythe.ports.snapshots import Kind, Mount, Snapshot, Stage, Usage
from hythe_bundle.adapters import disk_errors, in_use, snapshot_changes
from hythe_bundle.adapters.commits import Commit, Commits
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.layout import Layout
from hythe_bundle.adapters.places import Places
from hythe_bundle.adapters.recovery import recover
from hythe_bundle.adapters.snapshot_events import Teller
from hythe_bundle.adapters.snapshot_records import Row, SnapshotRecords
from hythe_bundle.adapters.stages import Stages
from hythe_bundle.adapters.syncing import Syncing
from hythe_bundle.uses import Uses

log = logging.getLogger(__name__)

T = TypeVar("T")


class SnapshotEngine:
    """Keeps the promises of `hythe.ports.snapshots.Snapshotter`, and notes in `uses` what is looked at."""

    def __init__(self, root: Path, database: Database, layout: Layout, *, sync_layers: bool = True) -> None:
        """Keep snapshots below `root`/snapshots and their records in `database`; remove what no record speaks of.

        Args:
            sync_layers: make files durable before they are recorded. Without it a power loss may leave snapshots of
                which files are missing or empty.

        Raises:
            FailedPrecondition: the layout can't lie there, or another one's snapshots do.
        """
        self._layout = layout
        self._database = database
        self._records = SnapshotRecords(database)
        self._places = Places(root)
        self._syncing = Syncing(root, enabled=sync_layers)
        self._commits = Commits(layout, self._places, database, self._records, self._syncing)
        self._stages = Stages(layout, self._places, self._commits, self._syncing)
        self.uses = Uses()
        self._committing: set[int] = set()
        if not sync_layers:
            log.warning(
                "layers are not made durable (HYTHE_SYNC_LAYERS=off): after a power loss an unpacked image may have empty or "
                "missing files"
            )
        recover(layout, self._places, database, self._records)

    @property
    def name(self) -> str:
        """What the setting ``HYTHE_SNAPSHOTTER`` calls this snapshotter."""
        return self._layout.name

    async def close(self) -> None:
        """Wait for commits and removals in progress; may be repeated."""
        await self._commits.close()
        await self._places.close()

    async def stage(self) -> Stage:
        """See `Snapshotter.stage`."""
        return await self._stages.make()

    async def commit_stage(
        self,
        stage: Stage,
        name: str,
        parent: str,
        *,
        implied: Sequence[bytes] = (),
        opaque: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """See `Snapshotter.commit_stage`."""
        await self.uses.note(name, parent)
        teller = Teller(self._layout.name)
        await self._stages.commit(
            stage, Commit(int(stage.key), name, parent, labels, teller, implied=implied, opaque=opaque)
        )

    async def discard(self, stage: Stage) -> None:
        """See `Snapshotter.discard`."""
        await self._stages.discard(stage)

    async def prepare(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """See `Snapshotter.prepare`."""
        return await self._add(key, "active", parent, labels)

    async def view(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """See `Snapshotter.view`."""
        return await self._add(key, "view", parent, labels)

    async def _add(self, key: str, kind: Kind, parent: str, labels: Mapping[str, str] | None) -> tuple[Mount, ...]:
        await self.uses.note(key, parent)
        below = self._records.check_new(key, parent)
        under = [self._places.path(each) for each in below]
        number = self._places.new()
        place, teller = self._places.path(number), Teller(self._layout.name)

        def record(connection: sqlite3.Connection) -> None:
            snapshot_changes.add(connection, number, key, kind, parent, labels)
            if kind == "active":  # as in containerd, of views nothing is told until they go
                teller.prepared(connection, key, parent)

        def undo(connection: sqlite3.Connection) -> None:
            if snapshot_changes.undo(connection, number):
                teller.removed(connection, key)

        try:
            with self._places.held(below):
                if kind == "active" or not below:
                    await self._in_thread("make snapshot", lambda: self._layout.make(place, under))
                    if self._layout.copies:
                        await self._syncing.sync()
                failpoints.reach("bundle.snapshot.made")
                await self._database.write(record)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                await self._database.write(undo)
            await self._remove(number)
            raise
        self._places.made(number)
        failpoints.reach("bundle.snapshot.recorded")
        return self._layout.writable(place, under) if kind == "active" else self._layout.read_only(under or [place])

    async def commit(self, name: str, key: str, *, labels: Mapping[str, str] | None = None) -> None:
        """See `Snapshotter.commit`."""
        await self.uses.note(key, name)
        row = self._records.check_commit(key, name)
        if row.number in self._committing:
            raise _being_made("commit", key)
        self._check_unmounted("commit", key, row.number)
        commit = Commit(row.number, name, row.snapshot.parent, labels, Teller(self._layout.name), key=key)
        self._committing.add(row.number)
        try:
            self._commits.add(commit)
            try:
                await asyncio.shield(commit.ended)
            except asyncio.CancelledError:
                if not self._commits.withdraw(commit):
                    await asyncio.wait([commit.ended])
                raise
        finally:
            self._committing.discard(row.number)
        await asyncio.to_thread(self._tidy, row.number)

    def _tidy(self, number: int) -> None:
        try:
            self._layout.tidy(self._places.path(number))
        except OSError as error:
            log.warning("snapshot directory %d could not be tidied: %s", number, error)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """See `Snapshotter.mounts`."""
        row = await self._find(key)
        if row.snapshot.kind == "committed":
            raise FailedPrecondition(
                f"mount snapshot {key}: it is committed",
                next_step="prepare one on top of it, or view it",
                details={"kind": "snapshot"},
            )
        if row.snapshot.kind == "view":
            return self._layout.read_only(self._stack(row))
        return self._layout.writable(self._places.path(row.number), self._paths(self._records.below(row)))

    async def look(self, name: str) -> tuple[Mount, ...]:
        """See `Snapshotter.look`."""
        return self._layout.read_only(self._stack(await self._find(name)))

    async def changes_in(self, name: str) -> Path | None:
        """See `Snapshotter.changes_in`."""
        row = await self._find(name)
        hides_all = (
            bool(row.snapshot.parent) and len(self._records.stack(row)) == 1
        )  # in overlayfs's form nothing says so
        if row.snapshot.kind == "view" or hides_all:
            return None
        return self._layout.changes(self._places.path(row.number))

    async def _find(self, name: str) -> Row:
        await self.uses.note(name)
        return self._records.find(name)

    def _stack(self, row: Row) -> list[Path]:
        return self._paths(self._records.stack(row))

    def _paths(self, numbers: Sequence[int]) -> list[Path]:
        return [self._places.path(number) for number in numbers]

    async def stat(self, name: str) -> Snapshot:
        """See `Snapshotter.stat`."""
        return (await self._find(name)).snapshot

    async def walk(self) -> AsyncIterator[Snapshot]:
        """See `Snapshotter.walk`."""
        after = 0
        while page := self._records.page(after):
            for row in page:
                yield row.snapshot
            after = page[-1].number
            await asyncio.sleep(0)  # others have their turn between pages

    async def update(self, name: str, labels: Mapping[str, str], *, only: Collection[str] | None = None) -> Snapshot:
        """See `Snapshotter.update`."""
        await self.uses.note(name)
        await self._database.write(lambda connection: snapshot_changes.update(connection, name, labels, only))
        return self._records.find(name).snapshot

    async def usage(self, name: str) -> Usage:
        """See `Snapshotter.usage`. What a committed snapshot takes is measured once."""
        row = self._records.find(name)
        if row.snapshot.kind == "view":
            return Usage(0, 0)
        known = self._records.usage(row.number)
        if known is not None:
            return known
        place = self._places.path(row.number)
        with self._places.held([row.number]):
            found = await self._in_thread("measure snapshot", lambda: self._layout.usage(place))
        if row.snapshot.kind == "committed":
            await self._database.write(
                lambda connection: snapshot_changes.remember_usage(connection, row.number, found), durable_commit=False
            )
        return found

    async def numbers_in_use(self) -> set[int]:
        """Return the numbers of the places that are mounted somewhere, or that something is just being made of."""
        mounted = await asyncio.to_thread(in_use.mounted_in, self._places.directory)
        return mounted | self._committing | self._places.held_now()

    async def cleanup(self) -> int:
        """See `Snapshotter.cleanup`."""
        return await self._places.clean_up(self._records.numbers())

    async def remove(self, name: str) -> None:
        """See `Snapshotter.remove`."""
        row = self._records.find(name)
        if self._places.is_held(row.number) or row.number in self._committing:
            raise _being_made("remove", name)
        self._check_unmounted("remove", name, row.number)
        # a layer whose files are gone must not be recorded again after a power loss; of the others nothing is missed
        durable_commit = row.snapshot.kind == "committed"
        teller = Teller(self._layout.name)

        def delete(connection: sqlite3.Connection) -> int:
            number = snapshot_changes.delete(connection, name)
            teller.removed(connection, name)
            return number

        number = await self._database.write(delete, durable_commit=durable_commit)
        failpoints.reach("bundle.snapshot.removed")
        self._records.forget(name)
        self._places.remove_later(number)

    async def read_file(self, name: str, path: str, most_bytes: int) -> bytes | None:
        """See `Snapshotter.read_file`."""
        stack = self._stack(await self._find(name))
        with disk_errors.translated("read the image", self._places.root):
            return await asyncio.to_thread(self._layout.read_file, stack, path, most_bytes)

    def _check_unmounted(self, step: str, name: str, number: int) -> None:
        if point := in_use.mounted_at(self._places.path(number)):
            raise FailedPrecondition(
                f"{step} snapshot {name}: it is mounted at {point}",
                next_step=f"unmount {point} first",
                details={"kind": "snapshot"},
            )

    async def _in_thread(self, step: str, work: Callable[[], T]) -> T:
        with disk_errors.translated(step, self._places.root):
            return await threads.run(work)

    async def _remove(self, number: int) -> None:
        """Remove a place and wait until it is gone, if the caller can wait."""
        await asyncio.wait([self._places.remove_later(number)])


def _being_made(step: str, name: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{step} snapshot {name}: something is just being made of it",
        next_step="try again when that is done",
        details={"kind": "snapshot"},
    )
