"""The SQLite file of the records: how it is made, checked, upgraded and opened."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

from hythe import outbox_table
from hythe.identifiers import new_id
from hythe.sqlite_file import Kind
from hythe_distribution.adapters.disk_errors import reported

APPLICATION_ID = 0x48795265  # "HyRe"
VERSION = 2
RECORDS = Kind(
    name="content records",
    application_id=APPLICATION_ID,
    contents="the records of the content store are damaged",
    remedy="move it away, and pull the images again",
    elsewhere="choose another HYTHE_CONTENT_URL",
    user="the distribution service",
    restart="start the stack again",
    details={"kind": "disk"},
)

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
    with reported(f"open content records {path}", path.parent), RECORDS.translated("open content records", path):
        if not path.exists():
            RECORDS.create(path, partial(_fill, virgin=virgin))
        connection = RECORDS.connect(path)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise RECORDS.newer(path, version, VERSION)
            connection.execute("PRAGMA synchronous = FULL")
            if version == 1:
                _run(connection, f"{_CHANGES} PRAGMA user_version = {VERSION};", virgin=False)
        except BaseException:
            connection.close()
            raise
        return connection


def _fill(connection: sqlite3.Connection, *, virgin: bool) -> None:
    _run(connection, f"PRAGMA user_version = {VERSION}; {_BLOBS} {_CHANGES}", virgin=virgin)


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
