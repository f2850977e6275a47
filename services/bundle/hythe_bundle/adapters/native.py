"""Snapshots as copies: each is the whole tree, so that no file system needs to stack anything. Slow, and works everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hythe.ports.snapshots import Mount, Usage
from hythe_bundle.adapters import disk_usage, merged, tree_copy
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.directories import ROOT, bound, fs, make_fs
from hythe_bundle.adapters.inheritance import inherit
from hythe_bundle.adapters.snapshotter import SnapshotEngine


class NativeLayout:
    """Keeps the promises of `hythe_bundle.adapters.layout.Layout` with the whole tree in ``fs``."""

    name = "native"
    copies = True

    def check(self, directory: Path) -> None:
        """See `Layout.check`: any directory will do."""

    def make(self, place: Path, below: Sequence[Path]) -> None:
        """See `Layout.make`."""
        make_fs(place)
        if below:
            tree_copy.copy(fs(below[0]), fs(place))

    def is_made(self, place: Path) -> bool:
        """See `Layout.is_made`."""
        return fs(place).is_dir()

    def make_stage(self, place: Path) -> tuple[Mount, ...]:
        """See `Layout.make_stage`."""
        make_fs(place)
        return bound(place, "rw")

    def finish(self, place: Path, below: Sequence[Path], implied: Sequence[bytes], *, hides_below: bool) -> None:
        """See `Layout.finish`: what the layer leaves of its parent is copied to it."""
        inherit(fs(place), [ROOT, *implied], [fs(one) for one in below[:1]])
        tree_copy.merge(fs(below[0]) if below else None, fs(place))

    def seal(self, place: Path) -> None:
        """See `Layout.seal`: nothing is to be done."""

    def tidy(self, place: Path) -> None:
        """See `Layout.tidy`: nothing is to be done."""

    def writable(self, place: Path, below: Sequence[Path]) -> tuple[Mount, ...]:
        """See `Layout.writable`."""
        return bound(place, "rw")

    def read_only(self, stack: Sequence[Path]) -> tuple[Mount, ...]:
        """See `Layout.read_only`."""
        return bound(stack[0], "ro")

    def changes(self, place: Path) -> Path | None:
        """See `Layout.changes`: there is no such directory."""
        return None

    def usage(self, place: Path) -> Usage:
        """See `Layout.usage`: that of the whole copy."""
        return disk_usage.measure(fs(place))

    def read_file(self, stack: Sequence[Path], path: str, most_bytes: int) -> bytes | None:
        """See `Layout.read_file`."""
        return merged.read_file([fs(stack[0])], path, most_bytes)


class NativeSnapshotter(SnapshotEngine):
    """The snapshotter that copies."""

    def __init__(self, root: Path, database: Database, *, sync_layers: bool = True) -> None:
        """See `SnapshotEngine`."""
        super().__init__(root, database, NativeLayout(), sync_layers=sync_layers)
