"""The snapshotter on overlayfs: directories ``snapshots/<n>/{fs,work}``, records in SQLite, mounts as containerd's.

A layer lies in the directory of its snapshot's number from the start; nothing is renamed when it is committed. The
number is never used again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from hythe import durable, failpoints
from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.linux import mountinfo
from hythe.ports.snapshots import Kind, Mount, Snapshot, Stage
from hythe_bundle.adapters import disk_errors, merged, snapshot_records
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.layer_commits import LayerCommit, LayerCommits
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.adapters.snapshot_records import SnapshotRecords

log = logging.getLogger(__name__)

_INDEX_PARAMETER = Path("/sys/module/overlay/parameters/index")


class OverlaySnapshotter:
    """Keeps the promises of `hythe.ports.snapshots.Snapshotter`."""

    def __init__(self, root: Path, database: Database) -> None:
        """Keep snapshots below `root`/snapshots and their records in `database`; remove what no record speaks of.

        Raises:
            FailedPrecondition: `root` has a character that overlayfs's options can't express.
        """
        if any(character in str(root) for character in ":,\\"):
            raise FailedPrecondition(
                f"open snapshots in {root}: overlayfs can't express ':', ',' or '\\' in a path",
                next_step="choose a HYTHE_ROOT without these characters",
            )
        self._root = root
        self._directory = root / "snapshots"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._database = database
        self._records = SnapshotRecords(database)
        self._commits = LayerCommits(root, self._fs, database, self._records)
        self._stages: dict[str, LayerCommit | None] = {}
        self._chains: dict[str, tuple[int, ...]] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._options = ("index=off",) if _INDEX_PARAMETER.exists() else ()
        present = {int(entry.name) for entry in self._directory.iterdir() if entry.name.isdigit()}
        self._remove_orphans(present)
        self._remake()
        self._numbers = itertools.count(max(self._records.greatest_number(), *present, 0) + 1)

    def _fs(self, number: int) -> Path:
        return self._directory / str(number) / "fs"

    def _work(self, number: int) -> Path:
        return self._directory / str(number) / "work"

    def _remove_orphans(self, present: set[int]) -> None:
        """Remove directories without a record: layers that were being applied when the last process ended."""
        known = {row[0] for row in self._database.read("SELECT id FROM snapshots")}
        orphans = sorted(present - known)
        if orphans and self._database.fresh:
            log.warning(
                "kept %d snapshot directories: their records are gone", len(orphans), extra={"at": str(self._directory)}
            )
            return
        for number in orphans:
            if mountinfo.overlay_on(self._fs(number)):
                log.warning("kept snapshot directory %d: it has no record, but is mounted", number)
                continue
            with disk_errors.translated("remove unfinished snapshot", self._root):
                remove_tree(self._directory / str(number))
        if orphans:
            log.info("removed %d unfinished snapshots", len(orphans))

    def _remake(self) -> None:
        """Make the directories of active snapshots that a crash of the machine has undone; they were empty."""
        for (number,) in self._database.read("SELECT id FROM snapshots WHERE kind = 'active'"):
            if not self._work(number).is_dir():
                with disk_errors.translated("make snapshot directory", self._root):
                    self._make(number)

    async def close(self) -> None:
        """Wait for commits and removals in progress."""
        await self._commits.close()
        if self._removals:
            await asyncio.wait(self._removals)

    async def stage(self) -> Stage:
        """See `Snapshotter.stage`."""
        number = next(self._numbers)
        making = asyncio.ensure_future(asyncio.to_thread(self._make, number))
        try:
            with disk_errors.translated("make snapshot directory", self._root):
                await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            self._remove_later(number)
            raise
        self._stages[str(number)] = None
        return Stage(str(number), (Mount("bind", str(self._fs(number)), "", ("rw", "rbind")),))

    def _make(self, number: int) -> None:
        directory = self._directory / str(number)
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            failpoints.reach("bundle.snapshot.make")
            for path, mode in ((self._fs(number), 0o755), (self._work(number), 0o700)):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        except OSError:
            remove_tree(directory)
            raise

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
        commit = self._stages[stage.key] = LayerCommit(int(stage.key), name, parent, implied, opaque, labels)
        self._commits.add(commit)
        try:
            await asyncio.shield(commit.ended)
        except asyncio.CancelledError:
            if self._commits.withdraw(commit):
                self._stages[stage.key] = None
            raise
        del self._stages[stage.key]
        durable.count_sync(2)  # syncfs and the record's commit

    async def discard(self, stage: Stage) -> None:
        """See `Snapshotter.discard`."""
        if stage.key not in self._stages:
            return
        commit = self._stages.pop(stage.key)
        if commit is not None:
            await asyncio.wait([commit.ended])
            if not commit.ended.cancelled() and commit.ended.exception() is None:
                return
        await asyncio.wait([self._remove_later(int(stage.key))])

    async def prepare(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """See `Snapshotter.prepare`."""
        return await self._add(key, "active", parent, labels)

    async def view(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """See `Snapshotter.view`."""
        if not parent:
            raise InvalidArgument(f"make view {key}: a view needs a parent")
        return await self._add(key, "view", parent, labels)

    async def _add(self, key: str, kind: Kind, parent: str, labels: Mapping[str, str] | None) -> tuple[Mount, ...]:
        number = next(self._numbers)

        def work(connection: sqlite3.Connection) -> None:
            snapshot_records.add(connection, number, key, kind, parent, labels)
            if kind == "active":
                with disk_errors.translated("make snapshot directory", self._root):
                    self._make(number)

        try:
            await self._database.write(work)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                await self._database.write(lambda connection: snapshot_records.undo(connection, number))
            self._remove_later(number)
            raise
        return self._mounts(number, kind, self._chain(parent) if parent else ())

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """See `Snapshotter.mounts`."""
        row = self._records.find(key)
        if row.snapshot.kind == "committed":
            raise FailedPrecondition(f"mount snapshot {key}: it is committed", next_step="prepare one on top of it")
        parent = row.snapshot.parent
        return self._mounts(row.number, row.snapshot.kind, self._chain(parent) if parent else ())

    def _mounts(self, number: int, kind: Kind, lower: tuple[int, ...]) -> tuple[Mount, ...]:
        if kind == "active" and not lower:
            return (Mount("bind", str(self._fs(number)), "", ("rw", "rbind")),)
        if kind == "view" and len(lower) == 1:
            return (Mount("bind", str(self._fs(lower[0])), "", ("ro", "rbind")),)
        stacked = self._stacked(lower)
        if kind == "view":
            return (Mount("overlay", "overlay", "", (*self._options, "ro", stacked)),)
        upper = f"upperdir={self._fs(number)}"
        return (Mount("overlay", "overlay", "", (*self._options, stacked, upper, f"workdir={self._work(number)}")),)

    async def look(self, name: str) -> tuple[Mount, ...]:
        """See `Snapshotter.look`."""
        row = self._records.find(name)
        shown = self._chain(row.snapshot.parent if row.snapshot.kind == "view" else name)
        if len(shown) == 1:
            return (Mount("bind", str(self._fs(shown[0])), "", ("ro", "rbind")),)
        return (Mount("overlay", "overlay", "", (*self._options, "ro", self._stacked(shown))),)

    async def changes_in(self, name: str) -> Path | None:
        """See `Snapshotter.changes_in`."""
        row = self._records.find(name)
        return None if row.snapshot.kind == "view" else self._fs(row.number)

    def _stacked(self, lower: tuple[int, ...]) -> str:
        return "lowerdir=" + ":".join(str(self._fs(below)) for below in lower)

    def _chain(self, name: str) -> tuple[int, ...]:
        chain = self._chains.get(name)
        if chain is None:
            chain = self._records.chain(name)
            if chain:
                self._chains[name] = chain
        return chain

    async def stat(self, name: str) -> Snapshot:
        """See `Snapshotter.stat`."""
        return self._records.find(name).snapshot

    async def walk(self) -> AsyncIterator[Snapshot]:
        """See `Snapshotter.walk`."""
        after = 0
        while page := self._records.page(after):
            for row in page:
                yield row.snapshot
            after = page[-1].number

    async def remove(self, name: str) -> None:
        """See `Snapshotter.remove`."""
        number = self._records.find(name).number
        if point := mountinfo.overlay_on(self._fs(number)):
            raise FailedPrecondition(
                f"remove snapshot {name}: it is mounted at {point}", next_step=f"unmount {point} first"
            )
        number = await self._database.write(
            lambda connection: snapshot_records.delete(connection, name), durable_commit=False
        )
        self._chains.pop(name, None)
        failpoints.reach("bundle.snapshot.removed")
        self._remove_later(number)

    def _remove_later(self, number: int) -> asyncio.Task[None]:
        """Remove a directory beside other work; the next start removes what a crash leaves of it."""

        async def work() -> None:
            try:
                await asyncio.to_thread(remove_tree, self._directory / str(number))
            except OSError as error:
                log.warning("snapshot directory %d could not be removed: %s", number, error)

        task = asyncio.get_running_loop().create_task(work(), name=f"remove-snapshot-{number}")
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        return task

    async def read_file(self, name: str, path: str, most_bytes: int) -> bytes | None:
        """See `Snapshotter.read_file`."""
        chain = self._chain(name)
        if not chain:
            raise snapshot_records.not_found(name)
        with disk_errors.translated("read the image", self._root):
            return await asyncio.to_thread(merged.read_file, [self._fs(number) for number in chain], path, most_bytes)
