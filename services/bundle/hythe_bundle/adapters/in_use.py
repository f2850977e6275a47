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


def _sources(mount: Mounted) -> Iterator[str]:
    """Yield the paths that a mount is made of."""
    if mount.type != "overlay":
        yield mount.source
        return
    for option in mount.options:
        for part in _OVERLAY_PARTS:
            if option.startswith(part):
                yield from option[len(part) :].split(":")
