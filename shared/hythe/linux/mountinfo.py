"""What is mounted, as this process sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9/._-]*")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo: where, what, and the options of its file system.

    Attributes:
        source: what was mounted, as the file system tells it: a device, a file, or a word.
        device: number of the file system, ``major:minor``.
        root: directory of that file system that shows at `point`.
        passed_on: how mounts below `point` are passed on, e.g. ``shared:7``; empty for a private one.
    """

    point: str
    type: str
    options: tuple[str, ...]
    source: str = ""
    device: str = ""
    root: str = ""
    passed_on: tuple[str, ...] = ()

    @property
    def upper_directory(self) -> str:
        """Directory that an overlay writes to; empty for anything else."""
        if self.type != "overlay":
            return ""
        return next((option[9:] for option in self.options if option.startswith("upperdir=")), "")


def mounts(about: str = "") -> Iterator[Mounted]:
    """Yield all mounts of this process's mount namespace.

    Args:
        about: leave out, before they cost more, lines that don't have this text; only one without special characters counts.

    Spec: proc(5), /proc/pid/mountinfo.
    """
    wanted = about.encode() if _PLAIN.fullmatch(about) else b""
    for line in _lines():
        if wanted not in line:
            continue
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) > 4 and len(rest) > 2:
            options = tuple(_text(option) for option in rest[2].split(b","))
            source, device, root = _text(rest[1]), fields[2].decode(), _text(fields[3])
            passed_on = tuple(field.decode() for field in fields[6:])
            yield Mounted(_text(fields[4]), rest[0].decode(), options, source, device, root, passed_on)


def points() -> list[str]:
    """Return all mount points of this process's mount namespace, in the order of mounting."""
    return [_text(line.split(b" ", 5)[4]) for line in _lines()]


def points_below(directory: Path) -> list[str]:
    """Return the mount points at and below `directory`, in the order of mounting."""
    top = str(directory.resolve())  # as the kernel spells it
    return [point for point in points() if lies_in(point, top)]


def lies_in(path: str, directory: str) -> bool:
    """Tell whether a path, as the kernel spells it, is `directory` or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mounted_below(directory: Path) -> str:
    """Return a mount point at or below `directory`; empty if there is none."""
    return next(iter(points_below(directory)), "")


def mount_at(point: Path) -> Mounted | None:
    """Return what is mounted at `point`, topmost; None if nothing is."""
    place = str(point.resolve())
    found = None
    for mount in mounts():
        if mount.point == place:
            found = mount
    return found


def mount_of(path: Path) -> Mounted | None:
    """Return the mount in which `path` lies."""
    place = str(path.resolve())
    found = None
    for mount in mounts():
        if lies_in(place, mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount  # of several at one point the last covers the others
    return found


def file_system_of(path: Path) -> str:
    """Return the type of the file system that shows at `path`, e.g. ``ext4``; empty if that can't be told."""
    mount = mount_of(path)
    return mount.type if mount is not None else ""


def shown_at(path: Path) -> list[str]:
    """Return the mount points that show the directory `path` itself or one below it, as bind mounts of it do."""
    above = mount_of(path)
    if above is None:
        return []
    top = str(Path(above.root) / path.resolve().relative_to(above.point))
    return [m.point for m in mounts() if m.device == above.device and lies_in(m.root, top)]


def overlay_on(upper: Path) -> str:
    """Return where an overlay that writes to `upper` is mounted; empty if it is nowhere."""
    return next((m.point for m in mounts(str(upper)) if m.upper_directory == str(upper)), "")


def _lines() -> list[bytes]:
    return Path("/proc/self/mountinfo").read_bytes().splitlines()


def _text(field: bytes) -> str:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field).decode(errors="surrogateescape")
