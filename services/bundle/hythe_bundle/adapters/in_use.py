"""Whether a directory of snapshots is mounted somewhere, by whatever way: as a part of an overlay, bound, or as an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hythe.linux import mountinfo
from hythe.linux.mountinfo import Mounted, lies_in

_OVERLAY_PARTS = ("upperdir=", "workdir=", "lowerdir=", "lowerdir+=")


def mounted_at(place: Path) -> str:
    """Return a mount point that shows something of `place`, or lies in it; empty if there is none.

    Only this process's mount namespace is seen.
    """
    top = str(place.resolve())  # as the kernel spells it; what an overlay is made of, it spells as it was told
    shown = set(mountinfo.shown_at(place))
    for mount in mountinfo.mounts():
        made_of_it = any(lies_in(part, top) or lies_in(part, str(place)) for part in _sources(mount))
        if made_of_it or mount.point in shown or lies_in(mount.point, top):
            return mount.point
    return ""


def mounted_in(directory: Path) -> set[int]:
    """Return the numbers of the places in `directory` of which `mounted_at` would tell a mount point. Blocks."""
    top = str(directory.resolve())
    above = mountinfo.mount_of(directory)
    shown = "" if above is None else str(Path(above.root) / directory.resolve().relative_to(above.point))
    found: set[int] = set()
    for mount in mountinfo.mounts():
        candidates = [(part, base) for part in _sources(mount) for base in {top, str(directory)}]
        candidates.append((mount.point, top))
        if above is not None and mount.device == above.device:
            candidates.append((mount.root, shown))
        for path, base in candidates:
            name = path.removeprefix(base.rstrip("/") + "/").partition("/")[0]
            if name.isascii() and name.isdigit() and lies_in(path, base):
                found.add(int(name))
    return found


def _sources(mount: Mounted) -> Iterator[str]:
    """Yield the paths that a mount is made of."""
    if mount.type != "overlay":
        yield mount.source
        return
    for option in mount.options:
        for part in _OVERLAY_PARTS:
            if option.startswith(part):
                yield from option[len(part) :].split(":")
