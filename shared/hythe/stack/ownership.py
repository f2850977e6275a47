"""A root, a state directory and a cgroup belong to one `hythe up` at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe.process import DirectoryLock
from hythe.settings import Settings
from hythe.stack.leftovers import cgroup_hierarchies


def _check_ours(directory: Path, setting: str, ours: tuple[str, ...]) -> None:
    """Refuse a directory with things of others and none of ours: its mode is about to be changed, e.g. that of /var/lib.

    Raises:
        FailedPrecondition: it is such a directory.
    """
    names = {entry.name for entry in directory.iterdir()} - {"lost+found"} if directory.is_dir() else set()
    if names and names.isdisjoint(ours):
        raise FailedPrecondition(
            f"take {directory}: it holds {len(names)} things that are not Hythe's",
            next_step=f"give {setting} a directory of its own",
        )


class Ownership:
    """Locks that are held while this process lives, also when it forks; `release` gives them back."""

    def __init__(self, settings: Settings, *, make_cgroup: bool) -> None:
        """Make the directories (root 0700, state 0711) and take them, and the cgroup.

        Args:
            make_cgroup: make the cgroup as well; without, it is taken where it is there.

        Raises:
            FailedPrecondition: another `hythe up` or `hythe down` works there now, or a stack with another root uses the same
                state directory or cgroup.
        """
        _check_ours(
            settings.root, "HYTHE_ROOT", (".lock", "keys", "nats", "log", "metadata", "content", "bundle", "agent")
        )
        _check_ours(settings.state, "HYTHE_STATE", ("up.json", "bus.json", "services", "run", "runc"))
        settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.root.chmod(0o700)
        try:
            self._root = DirectoryLock(settings.root)
        except FailedPrecondition as error:
            raise FailedPrecondition(
                f"take {settings.root}: a `hythe up` or `hythe down` of this stack is already at work",
                next_step="`hythe status` shows what runs; `hythe down` stops it",
            ) from error
        self._descriptors: list[int] = []
        try:
            settings.state.mkdir(mode=0o711, parents=True, exist_ok=True)
            settings.state.chmod(0o711)
            self._take(settings.state, "HYTHE_STATE")
            self._take_cgroup(settings, make_cgroup)
        except BaseException:
            self.release()
            raise

    def _take_cgroup(self, settings: Settings, make: bool) -> None:
        for top in cgroup_hierarchies():
            if top.name == "cpuset":
                continue  # a cpuset without processors is of no use to anybody
            place = top / settings.cgroup_parent / settings.host
            try:
                if make:
                    place.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue  # read-only here: `hythe doctor` says so
            if not place.is_dir():
                continue
            self._take(place, "HYTHE_CGROUP_PARENT")
            return

    def _take(self, path: Path, setting: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(
                f"take {path}: a stack with another root uses it",
                next_step=f"stop that stack, or give this one another {setting}",
            ) from None

    def release(self) -> None:
        """Give everything back."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._root.release()
