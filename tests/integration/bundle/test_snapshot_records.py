"""The snapshots' database through versions, and whether layers are durable before it says that they are there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe import tracing
from hythe.errors import FailedPrecondition
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.event_source import SnapshotEvents
from hythe_bundle.adapters.native import NativeSnapshotter
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from tests.fixtures.collecting import collector_of, store_at
from tests.fixtures.snapshots import commit, write

FORMAT_1 = """
CREATE TABLE snapshots (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    parent INTEGER REFERENCES snapshots (id), opaque INTEGER NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE TABLE labels (snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE, key TEXT NOT NULL,
    value TEXT NOT NULL, UNIQUE (snapshot, key)) STRICT;
CREATE TABLE images (target TEXT NOT NULL, platform TEXT NOT NULL, manifest TEXT NOT NULL, chain_id TEXT NOT NULL,
    config BLOB NOT NULL, PRIMARY KEY (target, platform)) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_chain ON images (chain_id);
INSERT INTO snapshots VALUES (1, 'base', 'committed', NULL, 0, '2026-01-02T03:04:05.000006Z');
INSERT INTO snapshots VALUES (2, 'key', 'active', 1, 0, '2026-01-02T03:04:06.000006Z');
INSERT INTO labels VALUES (2, 'k', 'v');
PRAGMA user_version = 1;
"""


FORMAT_2 = """
ALTER TABLE snapshots ADD COLUMN updated_at TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN size_bytes INTEGER;
ALTER TABLE snapshots ADD COLUMN inodes INTEGER;
UPDATE snapshots SET updated_at = created_at;
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO about VALUES ('snapshotter', 'overlayfs');
PRAGMA user_version = 2;
"""
"""What format 2 has more than format 1."""


@pytest.mark.parametrize("texts", [(FORMAT_1,), (FORMAT_1, FORMAT_2)])
async def test_database_of_an_older_format_is_taken_over(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """What an older version recorded is all there, as overlayfs's, and works on; events begin, and no store is trusted yet."""
    before = sqlite3.connect(tmp_path / "db")
    for text in texts:
        before.executescript(text)
    before.close()
    write(fs__a="1")(tmp_path / "snapshots" / "1")
    write(fs__b="2", work__w="")(tmp_path / "snapshots" / "2")
    database = Database(tmp_path / "db")
    try:
        with pytest.raises(FailedPrecondition, match="made by the snapshotter overlayfs, not by native"):
            NativeSnapshotter(tmp_path, database)
        snapshots = OverlaySnapshotter(tmp_path, database)
        found = await snapshots.stat("key")
        assert (found.parent, found.labels, found.updated_at) == ("base", {"k": "v"}, found.created_at)
        await snapshots.commit("top", "key")
        assert await snapshots.read_file("top", "/a", 1) == b"1"
        assert (await snapshots.usage("top")).inodes == 2
        events = SnapshotEvents(database)
        assert [(event.number, event.topic) for event in await events.outgoing(0, 9)] == [(1, "/snapshot/commit")]
        begun = await collector_of(database, snapshots).begin(store_at(1))
        assert (begun.trusted, begun.reason) == (False, "unknown store")
        await snapshots.close()
    finally:
        database.close()
    Database(tmp_path / "db").close()


class Names(tracing._NoBackend):
    """Notes the names of spans as they begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    @contextmanager
    def span(
        self, name: str, kind: tracing.Kind, attributes: Mapping[str, tracing.Value], parent: Mapping[str, str] | None
    ) -> Iterator[tracing.Span]:
        """See `tracing.Backend.span`."""
        self.begun.append(name)
        yield tracing._NoSpan()


@pytest.mark.parametrize(("kind", "copies"), [(OverlaySnapshotter, 0), (NativeSnapshotter, 1)])
@pytest.mark.parametrize("sync", [True, False])
async def test_files_are_synced_before_their_record_unless_it_is_off(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: type[OverlaySnapshotter | NativeSnapshotter],
    copies: int,
    sync: bool,
) -> None:
    """Each commit, and each copy, costs one syncfs; HYTHE_SYNC_LAYERS=off saves them, and the log says what that risks."""
    names, before = Names(), tracing._backend
    database = Database(tmp_path / "db")
    tracing.install(names)
    try:
        snapshots = kind(tmp_path, database, sync_layers=sync)
        await commit(snapshots, "base", "", write(a="1"))
        await snapshots.prepare("key", "base")
        await snapshots.commit("top", "key")
        await snapshots.close()
    finally:
        tracing.install(before)
        database.close()
    assert names.begun.count("syncfs") == (2 + copies if sync else 0)
    assert ("after a power loss" in caplog.text) != sync
