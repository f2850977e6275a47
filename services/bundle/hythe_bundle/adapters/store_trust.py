"""Which metadata store may have snapshots deleted, beside the snapshots' records."""

from __future__ import annotations

from hythe.gc_trust import Trust, from_text, to_text
from hythe_bundle.adapters import snapshot_changes
from hythe_bundle.adapters.database import Database
from hythe_bundle.adapters.database_schema import STORE_TRUST


class DatabaseTrust:
    """Keeps the promises of `hythe_bundle.collecting.TrustPlace`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> Trust:
        """See `TrustPlace.load`. A database that an older Hythe made knows no store and isn't new."""
        rows = self._database.read("SELECT value FROM about WHERE key = ?", (STORE_TRUST,))
        return from_text(rows[0][0]) if rows else Trust()

    async def save(self, trust: Trust) -> None:
        """See `TrustPlace.save`."""
        await self._database.write(
            lambda connection: snapshot_changes.set_about(connection, STORE_TRUST, to_text(trust))
        )
