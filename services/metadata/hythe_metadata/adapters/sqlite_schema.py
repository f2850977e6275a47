"""The file of the SQLite store: how it is made, checked, brought to the present version and opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from hythe import sqlite_file
from hythe.clock import now_rfc3339
from hythe.errors import FailedPrecondition
from hythe.identifiers import new_id
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_tables import TABLES, VERSION, VERSIONS_TABLE
from hythe_metadata.adapters.sqlite_upgrade import UPGRADES, Upgrade

WAL_LIMIT_PAGES = 4096


def open_store(path: Path) -> sqlite3.Connection:
    """Return the writer's connection to the store at `path`, which is made if there is none, checked and up to date.

    A store that is damaged, foreign or newer is refused and left untouched.

    Raises:
        DataLoss: the file isn't what was written.
        FailedPrecondition: it belongs to another program or to a newer version, or can't be written.
        ResourceExhausted: the disk is full.
        Unavailable: another program holds it.
    """
    with STORE.translated("open metadata store", path):
        if not path.exists():
            STORE.create(path, _fill)
        connection = prepare(path)
        try:
            _check_place(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_LIMIT_PAGES}")
            connection.execute("PRAGMA cache_size = -16384")
        except BaseException:
            connection.close()
            raise
    return connection


def prepare(path: Path) -> sqlite3.Connection:
    """Return a connection to the store that is at `path`, checked and brought to the present version.

    Raises:
        DataLoss, FailedPrecondition: as `open_store`.
        sqlite3.Error: the disk, or who else uses it.
    """
    connection = open_checked(path)
    try:
        upgrade(connection, path, UPGRADES, VERSION)
    except BaseException:
        connection.close()
        raise
    return connection


def open_checked(path: Path) -> sqlite3.Connection:
    """Return a connection to the store that is at `path`, in whatever version, after a look at its pages.

    Raises:
        DataLoss, FailedPrecondition: as `open_store`.
        sqlite3.Error: the disk, or who else uses it.
    """
    connection = STORE.connect(path)
    try:
        _check_pages(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a store."""
    (present,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(present)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection without implicit transactions, usable from one thread at a time."""
    connection = sqlite_file.connect(path)
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def begin_log(connection: sqlite3.Connection) -> None:
    """Write something that means nothing: the first commit into an empty log costs a second fsync, better now than later."""
    connection.execute("PRAGMA user_version = 0")


def upgrade(connection: sqlite3.Connection, path: Path, upgrades: Mapping[int, Upgrade], to: int) -> None:
    """Bring the store from its version to version `to` in one transaction.

    Raises:
        FailedPrecondition: its version is newer than `to`.
    """
    present = version_of(connection)
    if present > to:
        raise STORE.newer(path, present, to)
    if present == to:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for version in range(present + 1, to + 1):
            upgrades[version](connection)
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", (version, now_rfc3339()))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _fill(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty store."""
    connection.executescript(f"BEGIN; {VERSIONS_TABLE} {TABLES}")
    connection.execute("INSERT INTO schema_version VALUES (?, ?)", (VERSION, now_rfc3339()))
    connection.execute("INSERT INTO store VALUES (1, ?, 1, 0, 0, '')", (new_id(),))
    connection.execute("COMMIT")


def _check_place(connection: sqlite3.Connection, path: Path) -> None:
    (moved_to,) = connection.execute("SELECT moved_to FROM store").fetchone()
    if moved_to:
        raise FailedPrecondition(
            f"open metadata store {path}: its records were moved to {moved_to}",
            next_step="set HYTHE_METADATA_URL to that store; to go back, copy that one into a new file",
        )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = [text for (text,) in connection.execute("PRAGMA quick_check(5)")]
    if found != ["ok"]:
        raise STORE.damaged(f"check metadata store {path}", path, "; ".join(found))
