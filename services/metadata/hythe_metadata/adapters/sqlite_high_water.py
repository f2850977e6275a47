"""How far a SQLite store has ever been, noted beside its file: so a copy of it that was put back is told from the store itself.

The note is written after each commit, without an fsync: it outlives the process, and after a loss of power it is at most behind.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from pathlib import Path

ENDING = ".seen"
_LENGTH = 96
_NOTE = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,20}) ([0-9]{1,20}) *\n")

log = logging.getLogger(__name__)


class HighWater:
    """The note of one store; for one thread at a time."""

    def __init__(self, path: Path, store_id: str) -> None:
        """Open the note of the store at `path`, making it if there is none.

        Raises:
            OSError: it can't be opened.
        """
        self._store_id = store_id
        self._fd = os.open(f"{path}{ENDING}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._failed = False

    def read(self) -> tuple[int, int]:
        """Return the era and the revision that were noted last; zeros where they are of another store or can't be read."""
        found = _NOTE.fullmatch(os.pread(self._fd, _LENGTH + 1, 0))
        if found is None or found[1].decode() != self._store_id:
            return 0, 0
        return int(found[2]), int(found[3])

    def note(self, era: int, revision: int) -> None:
        """Note how far the store is; where that fails, it is said in the log once, and the store works on."""
        text = f"{self._store_id} {era} {revision}".ljust(_LENGTH - 1) + "\n"
        try:
            os.pwrite(self._fd, text.encode(), 0)
        except OSError as error:
            if not self._failed:
                log.warning("how far the metadata store is could not be noted", extra={"cause": str(error)})
            self._failed = True

    def close(self) -> None:
        """Close the note."""
        os.close(self._fd)


def look(connection: sqlite3.Connection, path: Path) -> HighWater:
    """Return the note of an open store, after the store was given a higher era if it is behind it: as after a restore.

    Raises:
        sqlite3.Error: of the store.
        OSError: the note can't be opened.
    """
    store_id, era, revision = connection.execute("SELECT id, era, revision FROM store").fetchone()
    water = HighWater(path, store_id)
    seen = water.read()
    if (era, revision) < seen:
        log.warning(
            "the metadata store is an older one than was here; nothing is collected for it until `hythe gc --confirm`",
            extra={"revision": revision, "seen_revision": seen[1], "seen_era": seen[0]},
        )
        era = max(era, seen[0]) + 1
        connection.execute("UPDATE store SET era = ?", (era,))
    water.note(era, revision)
    return water
