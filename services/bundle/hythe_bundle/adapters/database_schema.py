"""The tables of the bundle service's database, and how an older one becomes the present one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hythe import outbox_table
from hythe.errors import FailedPrecondition
from hythe.gc_trust import Trust, to_text

FORMAT = 3
STORE_TRUST = "metadata_store"
"""The fact about the database that says which metadata store may have snapshots deleted; missing where older Hythe made it."""

EVENTS_ID = "events_id"
"""The fact that is the id of this outbox; no other has it."""

_TABLES = """
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    parent INTEGER REFERENCES snapshots (id),
    opaque INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL DEFAULT '',
    size_bytes INTEGER,
    inodes INTEGER
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE TABLE labels (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (snapshot, key)
) STRICT;
CREATE TABLE images (
    target TEXT NOT NULL,
    platform TEXT NOT NULL,
    manifest TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    config BLOB NOT NULL,
    PRIMARY KEY (target, platform)
) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_chain ON images (chain_id);
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE snapshots ADD COLUMN updated_at TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN size_bytes INTEGER;
ALTER TABLE snapshots ADD COLUMN inodes INTEGER;
UPDATE snapshots SET updated_at = created_at;
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO about VALUES ('snapshotter', 'overlayfs');
"""
"""Format 1 knew overlayfs alone, so it made whatever is there."""
_VIRGIN = f"INSERT INTO about VALUES ('{STORE_TRUST}', '{to_text(Trust(virgin=True))}');"
_OUTBOX = f"{outbox_table.TABLES} INSERT INTO about VALUES ('{EVENTS_ID}', lower(hex(randomblob(16))));"
_UPGRADES = {0: _TABLES + _OUTBOX + _VIRGIN, 1: _FROM_1 + _OUTBOX, 2: _OUTBOX}


def ensure(connection: sqlite3.Connection, path: Path) -> bool:
    """Give the database the present tables, in one transaction; return whether it was empty.

    Raises:
        FailedPrecondition: a newer Hythe made it.
        sqlite3.Error: the disk.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != FORMAT:
        if version not in _UPGRADES:
            raise FailedPrecondition(
                f"open {path}: it has format {version}, this version of Hythe knows {FORMAT}",
                next_step="use the version of Hythe that wrote it",
            )
        connection.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[version]} PRAGMA user_version = {FORMAT}; COMMIT;")
    return version == 0
