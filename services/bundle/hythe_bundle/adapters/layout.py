"""What is different from one body of the snapshot port to the next: how layers lie on the disk, and how they are mounted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hythe.ports.snapshots import Mount, Usage


class Layout(Protocol):
    """How the snapshots of one body lie in their places.

    A place is a directory that belongs to one snapshot, and to it alone, from the start to its end; what lies in it is the
    layout's own affair. Layouts keep nothing in memory, know no records, and raise OSError. `make` to `seal`, `usage` and
    `read_file` block: they are called in threads, several at a time, but never two for one place.

    `below` are the places of what lies below, topmost first, and end with a layer that hides the rest. They are committed,
    and stay for as long as the call takes.

    Attributes:
        name: what the setting ``HYTHE_SNAPSHOTTER`` calls it.
        copies: whether `make` writes files that must be made durable before the snapshot is recorded.
    """

    name: str
    copies: bool

    def check(self, directory: Path) -> None:
        """Return if places can lie in `directory`.

        Raises:
            FailedPrecondition: they can't; it says why.
        """

    def make(self, place: Path, below: Sequence[Path]) -> None:
        """Make what an active snapshot needs in its place, which doesn't exist yet; or that of a view of nothing."""

    def is_made(self, place: Path) -> bool:
        """Tell whether `make` was done; after a crash of the machine it may be undone."""

    def make_stage(self, place: Path) -> tuple[Mount, ...]:
        """Make an empty place to apply a layer to, and return how to write to it."""

    def finish(self, place: Path, below: Sequence[Path], implied: Sequence[bytes], *, hides_below: bool) -> None:
        """Make a committed layer of a stage. When it fails, the place is of no use any more.

        Args:
            implied: see `Snapshotter.commit_stage`.
            hides_below: whether the layer hides all that lies below it; `below` is empty then.
        """

    def seal(self, place: Path) -> None:
        """Make a committed layer of an active snapshot, which stays of use as it is until `tidy`; may be repeated."""

    def tidy(self, place: Path) -> None:
        """Remove what only an active snapshot needs, now that it is recorded as committed. A crash may prevent it."""

    def writable(self, place: Path, below: Sequence[Path]) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot."""

    def read_only(self, stack: Sequence[Path]) -> tuple[Mount, ...]:
        """Return read-only mounts that show these places, topmost first; the first may be an active snapshot's."""

    def changes(self, place: Path) -> Path | None:
        """Return a directory with a snapshot's changes alone, in overlayfs's form; None if there is none."""

    def usage(self, place: Path) -> Usage:
        """Return what lies in a snapshot's place."""

    def read_file(self, stack: Sequence[Path], path: str, most_bytes: int) -> bytes | None:
        """See `Snapshotter.read_file`."""
