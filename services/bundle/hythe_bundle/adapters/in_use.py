"""Whether a directory of snapshots is mounted somewhere, by whatever way: as a part of an overlay, bound, or as an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hythe.linux import mountinfo
from hythe.linux.mountinfo import Mounted

_OVERLAY_PARTS = ("upperdir=", "workdir=", "lowerdir=", "lowerdir+=")


def mounted_at(place: Path) -> str:
    """Return a mount point that shows something of `place`, or lies in it; empty if there is none.

    Only this process's mount namespace is seen.
    """
    mounts = list(mountinfo.mounts())
    top = str(place.resolve())  # as the kernel spells it; what an overlay is made of, it spells as it was told
    device, root = _on_its_file_system(mounts, top)
    for mount in mounts:
        if _is_in(mount.point, top) or any(_is_in(part, top) or _is_in(part, str(place)) for part in _sources(mount)):
            return mount.point
        if root and mount.device == device and _is_in(mount.root, root):
            return mount.point
    return ""


def points_in(place: Path) -> list[str]:
    """Return the mount points in `place`, the last mounted first."""
    top = str(place.resolve())
    return [mount.point for mount in mountinfo.mounts() if _is_in(mount.point, top)][::-1]


def _on_its_file_system(mounts: Sequence[Mounted], path: str) -> tuple[str, str]:
    """Return the device that `path` lies on and its path there, for which a bind mount of it is known."""
    best = None
    for mount in mounts:
        if _is_in(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount  # of several at one point the last covers the others
    if best is None:
        return "", ""
    return best.device, str(PurePosixPath(best.root) / PurePosixPath(path).relative_to(best.point))


def _sources(mount: Mounted) -> Iterator[str]:
    """Yield the paths that a mount is made of."""
    if mount.type != "overlay":
        yield mount.source
        return
    for option in mount.options:
        for part in _OVERLAY_PARTS:
            if option.startswith(part):
                yield from option[len(part) :].split(":")


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
