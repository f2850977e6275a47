"""A file system nobody has used before, for each run: one on which much was deleted makes files many times slower."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_BYTES = 8 << 30


@contextmanager
def fresh_disk(directory: Path) -> Iterator[Path]:
    """Run a block with the mount point of a new ext4 of 8 GiB, which lies in a sparse file below `directory`.

    Raises:
        subprocess.CalledProcessError: it cannot be made or mounted; that needs root and a loop device.
    """
    with tempfile.TemporaryDirectory(prefix="disk-", dir=directory) as own:
        image, point = Path(own) / "image", Path(own) / "mount"
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        options = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", options, str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
        os.sync()
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)
