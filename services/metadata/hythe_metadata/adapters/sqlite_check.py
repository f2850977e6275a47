"""Whether a SQLite store is whole: its pages, and that its tables agree with each other."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import connect, open_checked, version_of
from hythe_metadata.adapters.sqlite_tables import VERSION
from hythe_metadata.records import INTERNAL_KINDS

MOST = 100
_NO_RECORD = (
    "SELECT x.kind, x.namespace, x.name FROM {table} AS x LEFT JOIN records AS r USING (kind, namespace, name)"
    f" WHERE r.revision IS NULL LIMIT {MOST}"
)
_INTERNAL = ", ".join(f"'{kind}'" for kind in sorted(INTERNAL_KINDS))
_MISCOUNTED = f"""
SELECT namespace, kind, sum(counted), sum(found) FROM (
    SELECT namespace, kind, count AS counted, 0 AS found FROM occupants
    UNION ALL
    SELECT namespace, kind, 0, count(*) FROM records WHERE kind NOT IN ({_INTERNAL}) GROUP BY 1, 2
) GROUP BY 1, 2 HAVING sum(counted) <> sum(found) LIMIT {MOST}
"""
_TOO_NEW = f"SELECT kind, namespace, name FROM records WHERE revision > (SELECT revision FROM store) LIMIT {MOST}"
_MISNUMBERED = (
    "SELECT o.noun, o.namespace, o.object_id FROM outbox AS o LEFT JOIN event_numbers AS n USING (namespace, noun, object_id)"
    f" WHERE n.last IS NULL OR o.number > n.last LIMIT {MOST}"
)


def check(path: Path) -> list[str]:
    """Return what is wrong with the store at `path`, nothing if it is whole; changes nothing, and holds up no writer.

    Raises:
        DataLoss: it is no SQLite file any more.
        FailedPrecondition: it is no metadata store, or one of another version.
    """
    with STORE.translated("check metadata store", path):
        opened = open_checked(path)
        try:
            _check_version(path, version_of(opened))
        finally:
            opened.close()
        connection = connect(path, read_only=True)
        try:
            connection.execute("BEGIN")
            return findings(connection)
        finally:
            connection.close()


def _check_version(path: Path, version: int) -> None:
    if version != VERSION:
        raise FailedPrecondition(
            f"check metadata store {path}: it has version {version}, and only version {VERSION} can be checked",
            next_step="use that newer version of Hythe" if version > VERSION else "`hythe metadata upgrade`",
        )


def findings(connection: sqlite3.Connection) -> list[str]:
    """As `check`, of an open store of the present version."""
    pages = [str(text) for (text,) in connection.execute(f"PRAGMA integrity_check({MOST})")]
    if pages != ["ok"]:
        return pages
    found: list[str] = []
    for table, what in (("uniques", "a unique name"), ("edges", "a reference")):
        found += [
            f"{what} of {_named(row)}, which isn't there" for row in connection.execute(_NO_RECORD.format(table=table))
        ]
    found += [f"{_named(row)} has a later revision than the store" for row in connection.execute(_TOO_NEW)]
    found += [
        f"namespace {namespace or '-'} has {there} records of kind {kind}, counted are {counted}"
        for namespace, kind, counted, there in connection.execute(_MISCOUNTED)
    ]
    found += [
        f"an event of {_named(row)} with a number that was never given" for row in connection.execute(_MISNUMBERED)
    ]
    return found


def _named(row: tuple[str, str, str]) -> str:
    kind, namespace, name = row
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
