"""What is mounted, as this process sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo: where, what, and the options of its file system.

    Attributes:
        source: what was mounted, as the file system tells it: a device, a file, or a word.
        device: number of the file system, ``major:minor``.
        root: directory of that file system that shows at `point`.
    """

    point: str
    type: str
    options: tuple[str, ...]
    source: str = ""
    device: str = ""
    root: str = ""

    @property
    def upper_directory(self) -> str:
        """Directory that an overlay writes to; empty for anything else."""
        if self.type != "overlay":
            return ""
        return next((option[9:] for option in self.options if option.startswith("upperdir=")), "")


def mounts() -> Iterator[Mounted]:
    """Yield all mounts of this process's mount namespace.

    Spec: proc(5), /proc/pid/mountinfo.
    """
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) > 4 and len(rest) > 2:
            options = tuple(_text(option) for option in rest[2].split(b","))
            source, device, root = _text(rest[1]), fields[2].decode(), _text(fields[3])
            yield Mounted(_text(fields[4]), rest[0].decode(), options, source, device, root)


def mounted_below(directory: Path) -> str:
    """Return a mount point at or below `directory`; empty if there is none."""
    top = str(directory.resolve())  # as the kernel spells it
    return next((m.point for m in mounts() if m.point == top or m.point.startswith(f"{top}/")), "")


def overlay_on(upper: Path) -> str:
    """Return where an overlay that writes to `upper` is mounted; empty if it is nowhere."""
    return next((m.point for m in mounts() if m.upper_directory == str(upper)), "")


def _text(field: bytes) -> str:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field).decode(errors="surrogateescape")
