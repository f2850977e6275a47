"""What the bundle service asks of its host: free space, and the facts that a spec is made from."""

from __future__ import annotations

import os
from pathlib import Path

from hythe.errors import ResourceExhausted


class DiskRoom:
    """Keeps the promise of `hythe_bundle.unpacker.Room` for the file system of one directory."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes

    def check(self, step: str) -> None:
        """See `Room.check`."""
        found = os.statvfs(self._root)
        free = found.f_bavail * found.f_frsize
        if free < self._reserve_bytes:
            raise ResourceExhausted(
                f"{step}: {free} bytes are free on the file system of {self._root}, "
                f"less than the reserve of {self._reserve_bytes}",
                phase=step,
                outcome="not started",
                next_step=f"make room on the file system of {self._root}, or lower HYTHE_DISK_RESERVE",
            )
