"""What SQLite's errors mean to those who ask the store."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted, Unavailable


def translate(error: sqlite3.Error, step: str, path: Path) -> HytheError:
    """Return the error of the closed set that `error`, met in `step` on the store at `path`, stands for."""
    cause = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return Internal(f"{step} {path}: SQLite was used wrongly", cause=cause)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return ResourceExhausted(
            f"{step} {path}: the disk is full; nothing was changed",
            cause=cause,
            next_step=f"make room on the file system of {path.parent}",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return Unavailable(
            f"{step} {path}: another program holds it locked",
            cause=cause,
            next_step=f"end the program that has {path} open",
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return FailedPrecondition(
            f"{step} {path}: it can't be written",
            cause=cause,
            next_step=f"make {path.parent} and the files in it writable for this user",
        )
    if primary == sqlite3.SQLITE_IOERR:
        return DataLoss(
            f"{step} {path}: the disk failed; nothing more is written",
            cause=cause,
            outcome="unknown",
            next_step="check the disk (`dmesg`) and its quotas, then start hythe-metadata again",
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(f"{step} {path}", path, cause)
    return Internal(f"{step} {path}: SQLite failed", cause=cause)


def damaged(message: str, path: Path, cause: str) -> DataLoss:
    """Return the error for a store whose bytes can't be trusted; it is left as it is."""
    return DataLoss(
        f"{message}: the metadata store is damaged",
        cause=cause,
        outcome="unknown",
        next_step=f"nothing was overwritten: keep a copy of {path}*, check the disk, then put a backup in its place",
    )


def translate_os(error: OSError, step: str, path: Path) -> HytheError:
    """As `translate`, for a file that is read or written without SQLite."""
    cause = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(
            f"{step} {path}: the disk is full; nothing was changed",
            cause=cause,
            next_step=f"make room on the file system of {path.parent}",
        )
    if error.errno == errno.EIO:
        return DataLoss(f"{step} {path}: the disk failed", cause=cause, next_step="check the disk (`dmesg`)")
    return FailedPrecondition(
        f"{step} {path}: a file can't be read or written",
        cause=cause,
        next_step=f"let this user read and write {error.filename or path}",
    )


@contextmanager
def translated(step: str, path: Path) -> Iterator[None]:
    """Raise errors of SQLite and of files in the block as errors of the closed set."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, step, path) from error
    except OSError as error:
        raise translate_os(error, step, path) from error
