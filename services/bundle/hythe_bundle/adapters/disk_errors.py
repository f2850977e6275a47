"""What the kernel's and SQLite's errors about the disk mean to those who ask the bundle service."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR))


def of_os(error: OSError, step: str, root: Path, *, phase: str = "") -> HytheError:
    """Return the error that `error`, met in `step` on the file system of `root`, stands for; `phase` is `step` by default."""
    cause, phase = error.strerror or str(error), phase or step
    if error.errno in _FULL:
        return no_room(step, root, cause, phase)
    if error.errno == errno.EIO:
        return DataLoss(
            f"{step}: the disk of {root} failed", phase=phase, cause=cause, next_step="check the disk (`dmesg`)"
        )
    if error.errno == errno.EROFS:
        return FailedPrecondition(
            f"{step}: {root} is read-only",
            phase=phase,
            cause=cause,
            next_step="mount it writable (`dmesg` says why it is not)",
        )
    return Internal(f"{step}: {error}", phase=phase, cause=cause)


def of_sqlite(error: sqlite3.Error, step: str, path: Path) -> HytheError:
    """Return the error that `error`, met in `step` on the database at `path`, stands for."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return no_room(step, path.parent, str(error), step)
    if primary in _DAMAGED:
        return DataLoss(
            f"{step}: {path} is damaged or its disk failed",
            phase=step,
            cause=str(error),
            next_step=f"keep a copy of {path}*, check the disk (`dmesg`), then start hythe-bundle again",
        )
    return Internal(f"{step}: SQLite failed on {path}", phase=step, cause=str(error))


def no_room(step: str, root: Path, cause: str, phase: str) -> ResourceExhausted:
    """Return the error for a full disk."""
    return ResourceExhausted(
        f"{step}: no space left on the file system of {root}",
        phase=phase,
        cause=cause,
        next_step=f"make room on the file system of {root}, then try again",
    )


@contextmanager
def translated(step: str, root: Path) -> Iterator[None]:
    """Raise the kernel's errors in the block as errors of the closed set."""
    try:
        yield
    except OSError as error:
        raise of_os(error, step, root) from error
