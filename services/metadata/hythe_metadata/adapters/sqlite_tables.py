"""The tables of the SQLite store."""

from __future__ import annotations

from hythe import outbox_table

VERSION = 2

VERSIONS_TABLE = """
CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    since TEXT NOT NULL
) STRICT;
"""
"""The one table that every version has, for it says which version this is."""

TABLES = f"""
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    era INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    log_dropped INTEGER NOT NULL,  -- revision up to which the log of changes has been dropped
    moved_to TEXT NOT NULL         -- where this store has been copied to; it isn't opened any more then
) STRICT;

CREATE TABLE records (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    forget_ns INTEGER NOT NULL,    -- wall clock after which it may go; 0: never
    has INTEGER NOT NULL,          -- 1: entries in unique indexes, 2: edges
    body TEXT NOT NULL,
    bulk TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_to_forget ON records (forget_ns) WHERE forget_ns > 0;

CREATE TABLE uniques (
    idx TEXT NOT NULL,
    space TEXT NOT NULL,           -- namespace, empty for all
    value TEXT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (idx, space, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX uniques_of_record ON uniques (kind, namespace, name);

CREATE TABLE edges (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    to_kind TEXT NOT NULL,
    to_name TEXT NOT NULL,
    via TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name, to_kind, to_name, via)
) STRICT, WITHOUT ROWID;

CREATE TABLE changes (
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (revision, kind, namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE occupants (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind)
) STRICT, WITHOUT ROWID;

{outbox_table.TABLES}
"""
