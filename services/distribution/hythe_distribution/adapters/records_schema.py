"""The SQLite file of the records: how it is made, checked, upgraded and opened, and what SQLite's errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe import outbox_table
from hythe.durable import sync_directory
from hythe.errors import DataLoss, FailedPrecondition, HytheError, Internal, ResourceExhausted, Unavailable
from hythe.identifiers import new_id
from hythe_distribution.adapters.disk_errors import reported

APPLICATION_ID = 0x48795265  # "HyRe": tells records from other SQLite files
VERSION = 2
BUSY_TIMEOUT_S = 1.0

_BLOBS = """
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
# Version 2: each record has the number of its last change, and what is gone leaves one behind; events wait in an outbox.
_CHANGES = f"""
ALTER TABLE blobs ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
UPDATE blobs SET sequence = numbered.number FROM (
    SELECT namespace, digest, ROW_NUMBER() OVER (ORDER BY namespace, digest) AS number FROM blobs
) AS numbered WHERE blobs.namespace = numbered.namespace AND blobs.digest = numbered.digest;
CREATE INDEX blobs_by_change ON blobs (sequence);

CREATE TABLE gone (
    namespace TEXT NOT NULL,
    digest TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_by_change ON gone (sequence);

CREATE TABLE sequence (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    last INTEGER NOT NULL,
    forgotten INTEGER NOT NULL  -- what went up to here is not known any more
) STRICT;
INSERT INTO sequence SELECT 1, count(*), 0 FROM blobs;

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
{outbox_table.TABLES}
-- events of changes that are made in another store, which cannot be in one transaction with them
CREATE TABLE intents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL
) STRICT;
"""


def open_records(path: Path, *, virgin: bool = False) -> sqlite3.Connection:
    """Return a connection to the records at `path`, for one thread at a time; each commit is durable.

    Nothing is read but the first page, so that a large file opens as fast as a small one. A file that is damaged,
    foreign or newer is refused and left untouched; one of an earlier version is brought to the present one.

    Args:
        virgin: a file that has to be made says that it began with a store without a blob.

    Raises:
        DataLoss: the file isn't what was written.
        FailedPrecondition: it belongs to another program or to a newer version, or can't be written.
        ResourceExhausted: the disk is full.
        Unavailable: another program holds it.
    """
    with reported(f"open content records {path}", path.parent), translated("open", path):
        if not path.exists():
            _create(path, virgin)
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
            version = _check(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            if version == 1:
                _run(connection, f"{_CHANGES} PRAGMA user_version = {VERSION};", virgin=False)
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path, virgin: bool) -> None:
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
        versions = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        _run(connection, f"{versions} {_BLOBS} {_CHANGES}", virgin=virgin)
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    draft.rename(path)
    sync_directory(path.parent)


def _run(connection: sqlite3.Connection, statements: str, *, virgin: bool) -> None:
    """Make tables and note what the file begins with, in one transaction."""
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {statements}")
        facts = {"id": new_id(), "virgin": "1" if virgin else ""}
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file."""
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
    return int(version)


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
