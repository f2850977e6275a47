"""A cgroup in every hierarchy that a new cgroup namespace can take for the root: what is made inside can be found and removed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
LEAF = "init"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy.

    Attributes:
        kind: ``cgroup`` (v1) or ``cgroup2``.
        options: what mount(8) must be told to get this hierarchy again.
        top: where it is mounted.
        room: the cgroup made in it.
    """

    kind: str
    options: str
    top: Path
    room: Path

    def remount_line(self) -> str:
        """Return ``kind|options|place below /sys/fs/cgroup``, for a shell to read."""
        return f"{self.kind}|{self.options}|{self.top.relative_to(CGROUPS)}"

    def made_inside(self) -> list[Path]:
        """Return the cgroups that were made in the room, the innermost first."""
        found = sorted((path for path in self.room.rglob("*") if path.is_dir()), reverse=True)
        return [path for path in found if path != self.room / LEAF]


@contextlib.contextmanager
def room(name: str) -> Iterator[list[Hierarchy]]:
    """Make the cgroup `name` in each hierarchy for the duration of a block; remove it with all that is inside.

    Raises:
        OSError: a cgroup cannot be removed because a process lives in it.
    """
    made = [_make(line, name) for line in Path("/proc/self/mountinfo").read_text().splitlines() if _is_cgroup(line)]
    try:
        yield made
    finally:
        for hierarchy in made:
            for path in (*hierarchy.made_inside(), hierarchy.room / LEAF, hierarchy.room):
                if path.is_dir():
                    _remove(path)


def _is_cgroup(line: str) -> bool:
    left, _, right = line.partition(" - ")
    return right.split(" ")[0] in ("cgroup", "cgroup2") and Path(left.split(" ")[4]).is_relative_to(CGROUPS)


def _make(line: str, name: str) -> Hierarchy:
    left, _, right = line.partition(" - ")
    kind, _, flags = right.split(" ", 2)
    top = Path(left.split(" ")[4])
    named = [flag for flag in flags.split(",") if flag.startswith("name=")]
    controllers = [
        flag for flag in flags.split(",") if flag not in ("rw", "xattr", "clone_children") and "=" not in flag
    ]
    options = "" if kind == "cgroup2" else ",".join(["none", *named] if named else controllers)
    hierarchy = Hierarchy(kind, options, top, top / name)
    hierarchy.room.mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):
        if kind == "cgroup" and (hierarchy.room / file).exists():
            (hierarchy.room / file).write_text((top / file).read_text())
    if kind == "cgroup2":
        (hierarchy.room / LEAF).mkdir()
    return hierarchy


def _remove(path: Path) -> None:
    deadline = time.monotonic() + 5.0
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # the kernel still counts a process that has just ended
