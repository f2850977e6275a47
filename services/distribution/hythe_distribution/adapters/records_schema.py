"""The SQLite file of the records: how it is made, checked and opened, and what SQLite's errors mean to those who ask."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.durable import sync_directory
from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted, Unavailable
from hythe_distribution.adapters.disk_errors import reported

APPLICATION_ID = 0x48795265  # "HyRe": tells records from other SQLite files
VERSION = 1
BUSY_TIMEOUT_S = 1.0

_SCHEMA = """
CREATE TABLE blobs (
    namespace TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    labels TEXT NOT NULL,  -- a JSON object of strings
    PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX namespaces_of_blobs ON blobs (digest, namespace);
"""


def open_records(path: Path) -> sqlite3.Connection:
    """Return a connection to the records at `path`, for one thread at a time; each commit is durable.

    Nothing is read but the first page, so that a large file opens as fast as a small one. A file that is damaged,
    foreign or newer is refused and left untouched.

    Raises:
        DataLoss: the file isn't what was written.
        FailedPrecondition: it belongs to another program or to a newer version, or can't be written.
        ResourceExhausted: the disk is full.
        Unavailable: another program holds it.
    """
    with reported(f"open content records {path}", path.parent), translated("open", path):
        if not path.exists():
            _create(path)
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise damaged(f"open content records {path}", path, "it doesn't begin as a SQLite file")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _check(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path) -> None:
    """Make an empty file beside its place and rename it, so that a crash never leaves half of one there."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        raise damaged(f"open content records {path}", path, f"the file is missing, but its log {log} is there")
    draft = path.with_name(f"{path.name}.new")
    for rest in path.parent.glob(f"{draft.name}*"):
        rest.unlink()
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        draft.chmod(0o600)
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT"
        )
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    draft.rename(path)
    sync_directory(path.parent)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise FailedPrecondition(
            f"open content records {path}: it is a SQLite file of another program",
            next_step="move it away, or choose another HYTHE_CONTENT_URL",
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise FailedPrecondition(
            f"open content records {path}: a newer Hythe made it (version {version}, this one knows {VERSION})",
            next_step="use that newer version of Hythe",
        )


def damaged(message: str, path: Path, cause: str) -> DataLoss:
    """Return the error for records whose bytes can't be trusted; they are left as they are."""
    return DataLoss(
        f"{message}: the records of the content store are damaged",
        cause=cause,
        outcome="unknown",
        next_step=f"nothing was overwritten: keep a copy of {path}*, move it away, and pull the images again",
        details={"kind": "disk"},
    )


@contextmanager
def translated(step: str, path: Path) -> Iterator[None]:
    """Raise errors of SQLite in the block as errors of the closed set."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, f"{step} content records {path}", path) from error


def _translate(error: sqlite3.Error, step: str, path: Path) -> HytheError:
    cause = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return Internal(f"{step}: SQLite was used wrongly", cause=cause)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return ResourceExhausted(
            f"{step}: the disk is full; nothing was changed",
            cause=cause,
            next_step=f"free some space there (df {path.parent}), then try again",
            details={"kind": "disk"},
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return Unavailable(
            f"{step}: another program holds it locked",
            cause=cause,
            next_step=f"end the program that has {path} open",
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return FailedPrecondition(
            f"{step}: it can't be written",
            cause=cause,
            next_step=f"make {path.parent} and the files in it writable for the distribution service",
            details={"kind": "disk"},
        )
    if primary == sqlite3.SQLITE_IOERR:
        return DataLoss(
            f"{step}: the disk failed",
            cause=cause,
            outcome="unknown",
            next_step="check the disk (`dmesg`) and its quotas, then start the stack again",
            details={"kind": "disk"},
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(step, path, cause)
    return Internal(f"{step}: SQLite failed", cause=cause)
