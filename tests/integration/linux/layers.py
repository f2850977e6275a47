"""Stacks of real layers to mount, and what the kernel says is mounted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hythe.linux import libc, mountinfo
from hythe.ports.snapshots import Mount


@dataclass(frozen=True, slots=True)
class Layers:
    """Directories ``<n> x/fs``, topmost first, each with its number in ``top`` and a file ``f<n>`` of its own."""

    directory: Path
    lower: tuple[Path, ...]

    @property
    def upper(self) -> Path:
        """The directory that a mount writes to."""
        return self.directory / "active" / "fs"

    @property
    def point(self) -> Path:
        """Where a test mounts."""
        return self.directory / "mount point"

    def overlay(self, *options: str) -> Mount:
        """Return the mount of all layers with an upper directory on top."""
        lower = "lowerdir=" + ":".join(map(str, self.lower))
        upper = (f"upperdir={self.upper}", f"workdir={self.upper.parent / 'work'}")
        return Mount("overlay", "overlay", "", (*options, "index=off", lower, *upper))

    def mounted(self) -> list[str]:
        """Return every mount point at or below the test's directory."""
        return points_below(self.directory)


def make(directory: Path, count: int, *, name: str = "x") -> Layers:
    """Make `count` layers below `directory`."""
    lower = tuple(directory / "snapshots" / f"{number} {name}" / "fs" for number in range(count))
    for number, path in enumerate(lower):
        path.mkdir(parents=True)
        (path / "top").write_text(str(number))
        (path / f"f{number}").write_text("")
    made = Layers(directory, lower)
    made.upper.mkdir(parents=True)
    (made.upper.parent / "work").mkdir()
    made.point.mkdir()
    return made


def points_below(directory: Path) -> list[str]:
    """Return every mount point at or below `directory`, in the order of mounting."""
    return mountinfo.points_below(directory)


def lines_about(directory: Path) -> list[str]:
    """Return the mount points whose line of mountinfo speaks of `directory`, be it as the mount point or as what is shown."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4].replace("\\040", " ") for line in lines if directory.name in line]


def remove(directory: Path) -> None:
    """Unmount all that a test has left, and remove its directory."""
    for point in reversed(points_below(directory)):
        libc.umount(point, libc.MNT_DETACH)
    shutil.rmtree(directory)
