"""What keeping volumes needs of the outside: their files, and somebody who copies an image's into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hythe.ports.snapshots import Mount
from hythe_bundle.volume_names import Volume
from hythe_bundle.wishes import IdRange


class VolumeFiles(Protocol):
    """Volumes on disk. All but `data` and `new_stage` block: call them in a thread.

    All raise ResourceExhausted when the disk is full.
    """

    def walk(self) -> tuple[list[Volume], list[Path]]:
        """Return all volumes, and what waits to be discarded: half made or half removed when the last process ended."""

    def data(self, namespace: str, name: str) -> Path:
        """Return where the data of a volume of that name lies, whether it is there or not.

        Raises:
            InvalidArgument: the namespace breaks its rule, so that it could be no name of a directory.
        """

    def new_stage(self, namespace: str) -> Path:
        """Return a path, never used again, for a volume that is still being made; nothing is there."""

    def make_stage(self, stage: Path, owner: tuple[int, int]) -> None:
        """Make the place at `stage`, with an empty directory of data in it that is `owner`'s: user and group."""

    def commit(self, stage: Path, volume: Volume) -> None:
        """Make what is at `stage` the volume; data and record survive power loss when this returns."""

    def fill(self, volume: Volume, stage: Path) -> bool:
        """Put the data at `stage` in place of a volume's, durably; False if the volume isn't empty any more."""

    def discard(self, stage: Path) -> None:
        """Remove what is at `stage`, or was retired there; nothing happens if nothing is."""

    def is_empty(self, volume: Volume) -> bool:
        """Tell whether a volume has no files."""

    def keep(self, volume: Volume) -> None:
        """Write the record of a volume anew, durably."""

    def retire(self, volume: Volume, *, durable: bool) -> Path:
        """Make a volume be none any more, in one step, and return where its files wait to be discarded.

        Raises:
            FailedPrecondition: something is mounted in it, whose files would be discarded as well.
        """

    def usage_bytes(self, volume: Volume) -> int:
        """Return what a volume takes on its disk."""


class Copier(Protocol):
    """Copies what strangers put into an image."""

    async def copy(
        self,
        name: str,
        mounts: Sequence[Mount],
        target: str,
        stage: Path,
        users: Sequence[IdRange],
        groups: Sequence[IdRange],
    ) -> bool:
        """Fill the data at `stage` with what shows at `target` in the file system that `mounts` make, links resolved in it.

        Owners, modes, times, links and extended attributes are kept, those of the directory itself as well.
        Cancelling stops it at once.

        Args:
            name: what messages call the volume.
            users: how the container's users are mapped to the host's, whose files then are owned accordingly; empty if they
                are the same. `groups` likewise.

        Returns:
            False where nothing is, and nothing happened.

        Raises:
            InvalidArgument: it is no directory.
            ResourceExhausted: the disk or its reserve is used up.
        """
