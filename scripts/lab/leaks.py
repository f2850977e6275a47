"""What a stack with places of its own has left behind on this machine, and how to clear it away.

A stack's directory and its cgroup parent bear a random name, so whatever mentions one of them belongs to that stack.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_MNT_DETACH = 2
_OCTAL = re.compile(r"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Places:
    """Where one stack lives: its directories and its cgroup below each hierarchy."""

    directories: tuple[Path, ...]
    cgroup_parent: str

    def processes(self) -> dict[int, str]:
        """Return the command line by pid of each process that belongs to the stack, but for this one and its ancestors."""
        own = _ancestry(os.getpid())
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in own and self._owns(entry):
                found[int(entry.name)] = (
                    _text(entry / "cmdline").replace("\0", " ").strip() or _text(entry / "comm").strip()
                )
        return found

    def _owns(self, process: Path) -> bool:
        if _text(process / "stat").rpartition(")")[2].split()[:1] == ["Z"]:
            return False
        if f"/{self.cgroup_parent}/" in _text(process / "cgroup"):
            return True
        return self._mentioned(_text(process / "cmdline") + _text(process / "environ") + _link(process / "cwd"))

    def _mentioned(self, text: str) -> bool:
        return any(str(directory) in text for directory in self.directories)

    def mounts(self) -> list[str]:
        """Return the mount points that lie below the stack's directories, or whose source does, innermost last."""
        found = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4])
            if self._mentioned(line) and Path(point) not in self.directories:
                found.append(point)
        return found

    def cgroups(self) -> list[Path]:
        """Return the stack's cgroup in each hierarchy where it exists."""
        return [top / self.cgroup_parent for top in hierarchies() if (top / self.cgroup_parent).is_dir()]

    def left_behind(self) -> list[str]:
        """Return one line for each process, mount and cgroup that is there; empty when the stack left nothing."""
        return [
            *(f"process {pid}: {command}" for pid, command in sorted(self.processes().items())),
            *(f"mount {point}" for point in self.mounts()),
            *(f"cgroup {path}" for path in self.cgroups()),
        ]

    def settled(self, *, timeout_s: float = 5.0) -> list[str]:
        """Return `left_behind` once it is empty, or as it is after `timeout_s`: what was just killed needs a moment."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = self.left_behind()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.02)

    def sweep(self) -> None:
        """Kill, unmount and remove everything that belongs to the stack, and what is in its directories.

        Raises:
            OSError: a cgroup cannot be removed.
        """
        deadline = time.monotonic() + 10.0
        while (processes := self.processes()) and time.monotonic() < deadline:
            for pid in processes:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        for point in reversed(self.mounts()):
            _libc.umount2(point.encode(), _MNT_DETACH)
        for top in self.cgroups():
            for path in sorted(top.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
            top.rmdir()
        if not self.mounts():
            for directory in self.directories:
                if not directory.is_mount():
                    shutil.rmtree(directory, ignore_errors=True)


def hierarchies() -> list[Path]:
    """Return where each cgroup hierarchy, v1 or v2, is mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] in ("cgroup", "cgroup2"):
            found.append(Path(left.split(" ")[4]))
    return found


def network_namespaces() -> set[str]:
    """Return the names under which network namespaces are kept on this machine."""
    names = Path("/run/netns")
    return {entry.name for entry in names.iterdir()} if names.is_dir() else set()


def _ancestry(pid: int) -> set[int]:
    chain = set()
    while pid > 0 and pid not in chain:
        chain.add(pid)
        fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return chain


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
