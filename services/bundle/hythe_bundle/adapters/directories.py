"""What layouts have in common whose snapshots are directories: the files in ``fs``, which can be bound somewhere."""

from __future__ import annotations

from pathlib import Path

from hythe.ports.snapshots import Mount

ROOT = b"."
"""The root directory as one of those that a layer doesn't describe: archives don't, it is the container's."""


def fs(place: Path) -> Path:
    """Return the directory with a snapshot's files."""
    return place / "fs"


def make_fs(place: Path) -> None:
    """Make a place with an empty directory for files, if it isn't there."""
    make(place, 0o700)
    make(fs(place), 0o755)


def make(path: Path, mode: int) -> None:
    """Make a directory, if it isn't there, with exactly this mode, whatever the umask."""
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def bound(place: Path, access: str) -> tuple[Mount, ...]:
    """Return the mounts that show a place's files, ``ro`` or ``rw``."""
    return (Mount("bind", str(fs(place)), "", (access, "rbind")),)
