"""Snapshots on overlayfs: a layer is a directory with its own files alone, stacked by a mount as containerd does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe.ports.snapshots import Mount, Usage
from hythe_bundle.adapters import disk_usage, merged
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.directories import ROOT, bound, fs, make, make_fs
from hythe_bundle.adapters.inheritance import inherit
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.adapters.snapshotter import SnapshotEngine
from hythe_bundle.worker import attributes

_INDEX_PARAMETER = Path("/sys/module/overlay/parameters/index")


class OverlayLayout:
    """Keeps the promises of `hythe_bundle.adapters.layout.Layout` with ``fs``, and ``work`` for overlayfs's own use.

    A layer lies where it was applied from the start; nothing is moved when it is committed.
    """

    name = "overlayfs"
    copies = False

    def __init__(self) -> None:
        self._options = ("index=off",) if _INDEX_PARAMETER.exists() else ()

    def check(self, directory: Path) -> None:
        """See `Layout.check`."""
        if any(character in str(directory) for character in ":,\\"):
            raise FailedPrecondition(
                f"open snapshots in {directory}: overlayfs can't express ':', ',' or '\\' in a path",
                next_step="choose a HYTHE_ROOT without these characters, or HYTHE_SNAPSHOTTER=native",
            )

    def make(self, place: Path, below: Sequence[Path]) -> None:
        """See `Layout.make`. The root directory takes over what it is below; all else is there by the mount."""
        make_fs(place)
        make(_work(place), 0o700)
        if below:
            _copy_root(fs(below[0]), fs(place))

    def is_made(self, place: Path) -> bool:
        """See `Layout.is_made`."""
        return fs(place).is_dir() and _work(place).is_dir()

    def make_stage(self, place: Path) -> tuple[Mount, ...]:
        """See `Layout.make_stage`."""
        make_fs(place)
        return bound(place, "rw")

    def finish(self, place: Path, below: Sequence[Path], implied: Sequence[bytes], *, hides_below: bool) -> None:
        """See `Layout.finish`."""
        inherit(fs(place), [ROOT, *implied], [fs(one) for one in below])

    def seal(self, place: Path) -> None:
        """See `Layout.seal`: nothing is to be done."""

    def tidy(self, place: Path) -> None:
        """See `Layout.tidy`."""
        remove_tree(_work(place))

    def writable(self, place: Path, below: Sequence[Path]) -> tuple[Mount, ...]:
        """See `Layout.writable`."""
        if not below:
            return bound(place, "rw")
        upper, work = f"upperdir={fs(place)}", f"workdir={_work(place)}"
        return (Mount("overlay", "overlay", "", (*self._options, _lower(below), upper, work)),)

    def read_only(self, stack: Sequence[Path]) -> tuple[Mount, ...]:
        """See `Layout.read_only`."""
        if len(stack) == 1:
            return bound(stack[0], "ro")
        return (Mount("overlay", "overlay", "", (*self._options, "ro", _lower(stack))),)

    def changes(self, place: Path) -> Path | None:
        """See `Layout.changes`."""
        return fs(place)

    def usage(self, place: Path) -> Usage:
        """See `Layout.usage`."""
        return disk_usage.measure(fs(place))

    def read_file(self, stack: Sequence[Path], path: str, most_bytes: int) -> bytes | None:
        """See `Layout.read_file`."""
        return merged.read_file([fs(place) for place in stack], path, most_bytes)


class OverlaySnapshotter(SnapshotEngine):
    """The snapshotter on overlayfs."""

    def __init__(self, root: Path, database: Database, *, sync_layers: bool = True) -> None:
        """See `SnapshotEngine`."""
        super().__init__(root, database, OverlayLayout(), sync_layers=sync_layers)


def _work(place: Path) -> Path:
    return place / "work"


def _lower(stack: Sequence[Path]) -> str:
    return "lowerdir=" + ":".join(f"{place}/fs" for place in stack)


def _copy_root(pattern: Path, directory: Path) -> None:
    """Give `directory` the attributes of `pattern`, but for those that are overlayfs's own."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(pattern, flags)
    try:
        target = os.open(directory, flags)
        try:
            attributes.copy(source, target, os.fstat(source), attributes.Inherited())
        finally:
            os.close(target)
    finally:
        os.close(source)
