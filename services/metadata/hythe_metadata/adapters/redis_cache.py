"""What the writer of a Redis store remembers of it: true for one mark of the store, which the server checks at each commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hythe_metadata.adapters.redis_view import Found
from hythe_metadata.overlay import IndexKey, Overlay
from hythe_metadata.records import Key

LIMIT_BYTES = 32 << 20
"""About how much is remembered; beyond that all is forgotten and read again as needed."""
_RECORD_BYTES = 1000  # what Python needs for a record beside its text
_ENTRY_BYTES = 400


class Cache:
    """Records and entries of unique indexes, absent ones too.

    Attributes:
        mark: of the state that all of it is true for; empty when nothing is known.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.mark = ""
        self.revision = 0
        self.records: dict[Key, Found] = {}
        self.index: dict[IndexKey, Key | None] = {}
        self._bytes = 0
        self._limit_bytes = limit_bytes

    def clear(self) -> None:
        """Forget everything."""
        self.mark, self.revision = "", 0
        self._forget()

    def learn(self, records: Mapping[Key, Found], index: Mapping[IndexKey, Key | None]) -> None:
        """Remember what was read at this mark."""
        for key, found in records.items():
            stored = found[0]
            self._bytes += _RECORD_BYTES + (len(stored.body) + len(stored.bulk) if stored else 0)
            self.records[key] = found
        self._bytes += _ENTRY_BYTES * len(index)
        self.index.update(index)

    def committed(self, batch: Overlay, revision: int, mark: str) -> None:
        """Remember what a batch wrote, and the mark that the store has since."""
        self.revision, self.mark = revision, mark
        written = batch.changes_made.records.items()
        records = {key: (w.stored, w.unique) if w else (None, frozenset[IndexKey]()) for key, w in written}
        self.learn(records, batch.index_changes)
        if self._bytes > self._limit_bytes:
            self._forget()

    def changed(self, keys: Iterable[Key], revision: int, mark: str) -> None:
        """Forget records that others have changed, and all that is known of the unique indexes."""
        self.revision, self.mark = revision, mark
        for key in keys:
            self.records.pop(key, None)
        self.index.clear()

    def _forget(self) -> None:
        self.records.clear()
        self.index.clear()
        self._bytes = 0
