"""The logs of the stack's own processes, read from their files: they are there also when nothing runs any more."""

from __future__ import annotations

import os
import sys
import time

from hythe.cli import exits
from hythe.errors import NotFound
from hythe.errors import PermissionDenied as NotAllowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

POLL_S = 0.1
_BLOCK = 64 << 10


def show(directory: Path, service: str, *, follow: bool, tail_lines: int | None) -> int:
    """Write the log of `service` to stdout, all of it or its last lines; with `follow` what is added, until interrupted.

    Raises:
        NotFound: there is no such log; the message names those that there are.
        PermissionDenied: this user may not read it.
    """
    path = directory / f"{service}.log"
    if "/" in service or not path.exists():
        names = sorted(p.stem for p in directory.glob("*.log"))
        raise NotFound(
            f"read the log of {service}: there is none in {directory}",
            next_step=f"logs there are: {', '.join(names)}" if names else "`hythe up` starts the services",
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise NotAllowed(f"read {path}: {error.strerror}", next_step="run it as root") from error
    out = sys.stdout.buffer
    if tail_lines is not None:
        os.lseek(descriptor, _start_of_tail(descriptor, tail_lines), os.SEEK_SET)
    while True:
        data = os.read(descriptor, _BLOCK)
        if data:
            out.write(data)
            continue
        out.flush()
        if not follow:
            break
        if _replaced(descriptor, path):
            os.close(descriptor)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            continue
        time.sleep(POLL_S)
    os.close(descriptor)
    return exits.OK


def _replaced(descriptor: int, path: Path) -> bool:
    """Tell whether the log was moved aside and a new one begun."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)


def _start_of_tail(descriptor: int, lines: int) -> int:
    """Return the offset in bytes at which the last `lines` lines begin."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if lines == 0:
        return end
    position, left = end, lines + 1
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        left -= 1  # the last line is not finished yet and counts as one
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(descriptor, position - start, start)
        found = len(block)
        while (found := block.rfind(b"\n", 0, found)) >= 0:
            left -= 1
            if left == 0:
                return start + found + 1
        position = start
    return 0
