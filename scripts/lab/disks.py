"""A file system nobody has used before: small ones for full disks, and one for each run that is measured.

An ext4 on which much was deleted makes files many times slower for a while, so what is measured never shares one.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPTIONS = "lazy_itable_init=0,lazy_journal_init=0"
"""All of it is written when it is made, not by the kernel while somebody measures."""

_BUSY_S = 10.0


@contextmanager
def fresh_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """Run a block with the mount point of a new ext4 of `size_bytes`, which lies in a sparse file below `directory`.

    Afterwards mount, loop device and file are gone, also when the block or the mounting was interrupted.

    Raises:
        subprocess.CalledProcessError: it cannot be made or mounted (that needs root and a loop device), or something
            still used it ten seconds after the block; it is then detached.
    """
    with tempfile.TemporaryDirectory(prefix="hythe-disk-", dir=directory) as own:
        image, point = Path(own) / "image", Path(own) / "mount"
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", _OPTIONS, str(image)], check=True)
        try:
            subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
            yield point
        finally:
            if point.is_mount():
                _unmount(point)


def _unmount(point: Path) -> None:
    """Unmount, and wait for what has just ended to let go of it."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        done = subprocess.run(["umount", str(point)], capture_output=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", str(point)], check=True)
            done.check_returncode()
        time.sleep(0.05)
