"""What a worker looks after while it writes: early write-back, a reserve of free space that stays, how far it is."""

from __future__ import annotations

import os

from hythe.archive import sandbox
from hythe.archive.failures import ReserveError
from hythe_bundle.worker import report

WRITE_BACK_BYTES = 8 << 20


class Watch:
    """Watches over what is written to one file system; acts on each 8 MiB."""

    def __init__(self, reserve_bytes: int) -> None:
        """`reserve_bytes` is to stay free."""
        self._reserve_bytes = reserve_bytes
        self._pending = 0

    def wrote(self, fd: int, size: int) -> None:
        """Take note of `size` bytes written to `fd`.

        Raises:
            ReserveError: less than the reserve would stay free.
        """
        self._pending += size
        if self._pending < WRITE_BACK_BYTES:
            return
        self._pending = 0
        self.act(fd)

    def act(self, fd: int) -> None:
        """Do what is due after 8 MiB."""
        sandbox.start_write_back(fd)
        self.check(os.fstatvfs(fd))

    def check(self, free: os.statvfs_result) -> None:
        """Return if as much is free as is to stay free.

        Raises:
            ReserveError: it is less.
        """
        if self._reserve_bytes and free.f_bavail * free.f_frsize < self._reserve_bytes:
            raise ReserveError(f"less than {self._reserve_bytes} bytes would stay free")


class Progress:
    """Tells the parent how far the work is, each 8 MiB."""

    def __init__(self) -> None:
        self._told = 0

    def at(self, done: int) -> None:
        """Take note that `done` bytes were read."""
        if done - self._told >= WRITE_BACK_BYTES:
            self._told = done
            report.write(report.progress(done))
