"""The file of a SQLite store, as whoever keeps it sees it: back it up, restore it, check it, upgrade it."""

from __future__ import annotations

from pathlib import Path

from hythe.errors import NotFound
from hythe_metadata.adapters import sqlite_backup, sqlite_check
from hythe_metadata.adapters.sqlite_kind import STORE
from hythe_metadata.adapters.sqlite_schema import open_checked, prepare, version_of

STORE_FILE = "metadata.db"


class StoreFile:
    """A store's file. `backup` and `check` may be used beside the service, the others only while nobody uses the store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def backup(self, target: Path) -> int:
        """See `hythe_metadata.adapters.sqlite_backup.backup`."""
        self._check_there("back up")
        return sqlite_backup.backup(self.path, target)

    def restore(self, source: Path) -> Path | None:
        """See `hythe_metadata.adapters.sqlite_backup.restore`."""
        return sqlite_backup.restore(source, self.path)

    def check(self) -> list[str]:
        """See `hythe_metadata.adapters.sqlite_check.check`."""
        self._check_there("check")
        return sqlite_check.check(self.path)

    def upgrade(self) -> tuple[int, int]:
        """Bring the store to the present version; return the version that it had, and the one that it has.

        Raises:
            NotFound: there is no store.
            DataLoss, FailedPrecondition: as `hythe_metadata.adapters.sqlite_schema.open_store`.
        """
        self._check_there("upgrade")
        with STORE.translated("upgrade metadata store", self.path):
            connection = open_checked(self.path)
            before = version_of(connection)
            connection.close()
            connection = prepare(self.path)
            now = version_of(connection)
            connection.close()
        return before, now

    def _check_there(self, step: str) -> None:
        if not self.path.exists():
            raise NotFound(
                f"{step} metadata store {self.path}: there is none",
                next_step="`hythe up` makes one; is HYTHE_ROOT right?",
            )
