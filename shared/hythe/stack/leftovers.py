"""Clearing away what containers leave on a host when nobody else does: processes, mounts, cgroups, the state directory."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from hythe.linux import libc, mountinfo
from hythe.settings import Settings

_GONE_TIMEOUT_S = 5.0
_OF_THE_PROCESSES = ("bus.json", "up.json", "services")
_OF_THE_CONTAINERS = ("run", "runc")


def cgroup_directories(settings: Settings) -> list[Path]:
    """Return this stack's cgroup ``<parent>/<host>`` in each hierarchy, v1 or v2, where it exists."""
    places = [top / settings.cgroup_parent / settings.host for top in cgroup_hierarchies()]
    return [place for place in places if place.is_dir()]


def cgroup_hierarchies() -> list[Path]:
    """Return where each cgroup hierarchy, v1 or v2, is mounted."""
    return [Path(mount.point) for mount in mountinfo.mounts("cgroup") if mount.type in ("cgroup", "cgroup2")]


def processes_in(cgroups: Iterable[Path]) -> set[int]:
    """Return the pids of all processes in these cgroups and those below them."""
    pids: set[int] = set()
    for top in cgroups:
        for directory in (top, *(path for path in top.rglob("*") if path.is_dir())):
            try:
                pids.update(map(int, (directory / "cgroup.procs").read_text().split()))
            except OSError:
                continue  # it went away meanwhile
    return pids


def kill_all(cgroups: list[Path]) -> int:
    """Kill every process in these cgroups and wait until none is left, up to 5 s; return how many were killed."""
    killed: set[int] = set()
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while (pids := processes_in(cgroups)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.add(pid)
        time.sleep(0.01)
    return len(killed)


def remove_cgroups(settings: Settings) -> int:
    """Remove this stack's cgroups in every hierarchy, and the parent where nobody else uses it; return how many were there.

    A cgroup in which a process still lives stays.
    """
    found = cgroup_directories(settings)
    for top in found:
        for path in sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
            _rmdir(path)
        _rmdir(top)
        parent = top.parent
        for _ in settings.cgroup_parent.split("/"):
            _rmdir(parent)
            parent = parent.parent
    return len(found)


def _rmdir(path: Path) -> None:
    deadline = time.monotonic() + 1.0
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            busy = path.is_dir() and not any(child.is_dir() for child in path.iterdir()) and not processes_in([path])
            if not busy or time.monotonic() > deadline:
                return
            time.sleep(0.01)  # the kernel still counts a process that has just ended
        else:
            return


def mounts_below(directories: Iterable[Path]) -> list[Path]:
    """Return the mount points strictly below these directories, innermost first."""
    tops = tuple(f"{os.path.realpath(directory)}/" for directory in directories)  # as the kernel spells them
    return [Path(point) for point in mountinfo.points() if point.startswith(tops)][::-1]


def unmount_all(settings: Settings) -> int:
    """Detach every mount below the state directory and below the bundles; return how many there were.

    Mounts that somebody made for other parts of the root, e.g. a disk of its own for the content, stay.
    """
    places = (settings.state, settings.root / "bundle" / "bundles")
    count = 0
    for point in mounts_below(places):
        try:
            libc.umount(str(point), libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
        except OSError:
            continue
        count += 1
    return count


def clear_state(state: Path, *, keep_containers: bool) -> None:
    """Remove what one boot of the stack kept; with `keep_containers` only what the processes of the stack kept.

    What Hythe did not make stays, for the setting may name a directory of somebody else's.
    """
    if not keep_containers and mounts_below([state]):
        return  # never delete through a mount that would not go
    for name in (*_OF_THE_PROCESSES, *(() if keep_containers else _OF_THE_CONTAINERS)):
        entry = state / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    try:
        state.rmdir()
    except OSError:
        pass  # a mount point, or not empty, or gone: all may be
