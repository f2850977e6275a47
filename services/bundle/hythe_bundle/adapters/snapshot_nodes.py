"""The graph of snapshots as the database has it, and which of them are in use on this host."""

from __future__ import annotations

import sqlite3

from hythe.labels import GC
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.snapshotter import SnapshotEngine
from hythe_bundle.describing import RECORD
from hythe_bundle.own_labels import BUNDLE_PREFIX
from hythe_bundle.snapshot_graph import Graph, Node

_NODES = """
SELECT s.id, s.name, s.kind, COALESCE(p.name, '') FROM snapshots AS s LEFT JOIN snapshots AS p ON p.id = s.parent
"""


class SnapshotNodes:
    """Keeps the promises of `hythe_bundle.collecting.Inner`."""

    def __init__(self, database: Database, engine: SnapshotEngine) -> None:
        self._database = database
        self._engine = engine

    @property
    def snapshotter(self) -> str:
        """See `Inner.snapshotter`."""
        return self._engine.name

    async def graph(self) -> Graph:
        """See `Inner.graph`."""
        nodes = await self._database.read_beside(_nodes)
        return Graph(nodes, self._engine.name)

    async def in_use(self) -> set[int]:
        """See `Inner.in_use`."""
        return await self._engine.numbers_in_use()


def _nodes(connection: sqlite3.Connection) -> list[Node]:
    connection.execute("BEGIN")  # all three show the same moment
    labels: dict[int, dict[str, str]] = {}
    found = connection.execute("SELECT snapshot, key, value FROM labels WHERE key GLOB ?", (f"{GC}*",))
    for number, key, value in found:
        labels.setdefault(number, {})[key] = value
    bundles = {
        row[0] for row in connection.execute("SELECT snapshot FROM labels WHERE key = ?", (BUNDLE_PREFIX + RECORD,))
    }
    return [
        Node(number, name, kind, parent, labels.get(number, {}), number in bundles)
        for number, name, kind, parent in connection.execute(_NODES)
    ]
