"""The cgroup hierarchies of this host, v1, v2 and hybrid: where monitors go, and how a container's tree is removed."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe.linux import mountinfo

EMPTY_WITHIN_S = 5.0
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy."""

    root: Path
    unified: bool
    cpuset: bool


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that are mounted. Blocks.

    Spec: proc(5), "mountinfo".
    """
    return [
        Hierarchy(Path(mount.point), mount.type == "cgroup2", "cpuset" in mount.options)
        for mount in mountinfo.mounts("cgroup")
        if mount.type in ("cgroup", "cgroup2")
    ]


class KernelCgroups:
    """`hythe_runtime.agent.ports.Cgroups` by the cgroup file systems; paths are absolute below each hierarchy's root."""

    def __init__(self) -> None:
        self._hierarchies = hierarchies()
        self._own = _own_cgroup(self._hierarchies)
        self._making = threading.Lock()

    async def remove(self, path: str) -> None:
        """Kill what is left in the cgroup `path` and remove its tree from every hierarchy."""
        await asyncio.to_thread(self.remove_now, path)

    def remove_now(self, path: str) -> None:
        """As `remove`; blocks."""
        trees = [tree for h in self._hierarchies if (tree := h.root / path.lstrip("/")).is_dir()]
        limit = time.monotonic() + EMPTY_WITHIN_S
        for tree in trees:
            while not _remove_tree(tree):
                if time.monotonic() > limit:
                    raise FailedPrecondition(f"remove cgroup {tree}: it is still in use", phase="cgroup removal")
                _kill_members(tree)
                time.sleep(0.005)

    def remove_empty(self, *paths: str) -> None:
        """Remove those of the cgroups `paths`, in this order, that have neither processes nor children. Blocks."""
        for hierarchy in self._hierarchies:
            for path in paths:
                try:
                    (hierarchy.root / path.lstrip("/")).rmdir()
                except OSError:
                    pass  # in use, or not there

    def oom_kills(self, path: str) -> int:
        """Return how many processes of the cgroup `path` were killed for want of memory; 0 where the kernel doesn't say.

        Spec: kernel, "cgroup-v2", memory.events, which counts for all below it; "cgroup-v1/memory", memory.oom_control.
        """
        for hierarchy in self._hierarchies:
            tree = hierarchy.root / path.lstrip("/")
            found = _counted(tree / "memory.events" if hierarchy.unified else tree / "memory.oom_control")
            if found is not None:
                return found
        return 0

    def warm_up(self) -> None:
        """Pay now for the lock that moving a process into a cgroup takes, by moving this process to where it is. Blocks.

        The kernel takes that lock in 5 to 15 ms when nobody has for a while, and at once within the next 10 ms.
        """
        try:
            _write(self._own / "cgroup.procs", str(os.getpid()))
        except OSError:
            pass  # it only saves time

    def move(self, pid: int, path: str) -> None:
        """Put process `pid` into the cgroup `path` of every hierarchy, making it where needed. Blocks."""
        for hierarchy in self._hierarchies:
            directory = hierarchy.root / path.lstrip("/")
            try:
                _write(directory / "cgroup.procs", str(pid))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOSPC):
                    raise
                with self._making:  # ENOSPC: a v1 cpuset that somebody is just making has no processors yet
                    self._make(hierarchy, directory)
                _write(directory / "cgroup.procs", str(pid))

    def _make(self, hierarchy: Hierarchy, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if hierarchy.cpuset and not hierarchy.unified:
            self._inherit_cpuset(hierarchy, directory)

    def _inherit_cpuset(self, hierarchy: Hierarchy, directory: Path) -> None:
        """A new v1 cpuset has no processors and takes no process: copy from its parent, from the top."""
        if directory != hierarchy.root:
            self._inherit_cpuset(hierarchy, directory.parent)
            for name in _CPUSET_FILES:
                if not (directory / name).read_text().strip():
                    _write(directory / name, (directory.parent / name).read_text().strip())


def _counted(path: Path) -> int | None:
    """Return the number behind ``oom_kill`` in a file of the kernel's; None where it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _own_cgroup(known: list[Hierarchy]) -> Path:
    """Return this process's own cgroup in one of the hierarchies, v2 if there is one.

    Spec: cgroups(7), "/proc files".
    """
    unified = [h for h in known if h.unified]
    root = (unified or known)[0].root
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" if unified else root.name in controllers.removeprefix("name=").split(","):
            return root / path.lstrip("/")
    return root


def _remove_tree(tree: Path) -> bool:
    """Remove `tree` bottom-up; tell whether it is gone."""
    for directory, _, _ in os.walk(tree, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            return False
    return True


def _kill_members(tree: Path) -> None:
    """Kill every process in `tree`. A pid is signalled by a descriptor taken while it was seen to be a member."""
    held: dict[int, int] = {}
    try:
        for pid in _members(tree):
            try:
                held[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
        for pid in _members(tree):
            if pid in held:
                try:
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)
                except ProcessLookupError:
                    pass
    finally:
        for fd in held.values():
            os.close(fd)


def _members(tree: Path) -> set[int]:
    members: set[int] = set()
    for directory, _, _ in os.walk(tree):
        try:
            members.update(int(line) for line in (Path(directory) / "cgroup.procs").read_text().split())
        except OSError:
            pass  # removed meanwhile
    return members - {0}


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
