"""Identity of processes (pid, start time, boot id) and exclusive ownership of directories."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from hythe.clock import boot_id
from hythe.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be confused with a later one of the same pid.

    Attributes:
        pid: process id in this pid namespace.
        start_ticks: field 22 of /proc/<pid>/stat, clock ticks after boot.
        boot_id: kernel boot id.
    """

    pid: int
    start_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        return self.boot_id == boot_id() and _stat(self.pid) == (self.start_ticks, True)

    def open_pidfd(self) -> int | None:
        """Return a pidfd of this very process, or None if it is gone; the caller closes it."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.alive():
            return fd
        os.close(fd)
        return None


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the living process `pid`, or None if there is none."""
    found = _stat(pid)
    if found is None or not found[1]:
        return None
    return ProcessIdentity(pid, found[0], boot_id())


def _stat(pid: int) -> tuple[int, bool] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[19]), fields[0] not in ("Z", "X")


class DirectoryLock:
    """Exclusive ownership of a root directory for as long as this process lives (flock on ``.lock``)."""

    def __init__(self, directory: Path) -> None:
        """Take the lock, making the directory (0700) if needed.

        Raises:
            FailedPrecondition: another process holds it.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise FailedPrecondition(
                f"lock {directory}: another process owns it",
                next_step="stop that process, or choose another HYTHE_ROOT",
            ) from None

    def release(self) -> None:
        """Give the directory back."""
        os.close(self._fd)
