"""What the writer of a Redis store remembers of it: true for one mark of the store, which the server checks at each commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hythe_metadata.overlay import IndexKey, Overlay
from hythe_metadata.records import Key, Stored

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
        self.records: dict[Key, Stored | None] = {}
        self.index: dict[IndexKey, Key | None] = {}
        self._entries: dict[Key, set[IndexKey]] = {}
        self._bytes = 0
        self._limit_bytes = limit_bytes

    def clear(self) -> None:
        """Forget everything."""
        self.mark, self.revision = "", 0
        self._forget()

    def learn(self, records: Mapping[Key, Stored | None], index: Mapping[IndexKey, Key | None]) -> None:
        """Remember what was read at this mark."""
        for key, stored in records.items():
            self._bytes += _RECORD_BYTES + (len(stored.body) + len(stored.bulk) if stored else 0)
            self.records[key] = stored
        self._bytes += _ENTRY_BYTES * len(index)
        self.index.update(index)
        for entry, holder in index.items():
            if holder is not None:
                self._entries.setdefault(holder, set()).add(entry)

    def committed(self, batch: Overlay, revision: int, mark: str) -> None:
        """Remember what a batch wrote, and the mark that the store has since."""
        self.revision, self.mark = revision, mark
        written = batch.changes_made.records
        for key in written:
            for entry in self._entries.pop(key, ()):
                self.index.pop(entry, None)
        self.learn({key: made.stored if made else None for key, made in written.items()}, batch.taken)
        if self._bytes > self._limit_bytes:
            self._forget()

    def changed(self, keys: Iterable[Key], revision: int, mark: str) -> None:
        """Forget records that others have changed, and all that is known of the unique indexes."""
        self.revision, self.mark = revision, mark
        for key in keys:
            self.records.pop(key, None)
        self._forget_index()

    def _forget(self) -> None:
        self.records.clear()
        self._forget_index()
        self._bytes = 0

    def _forget_index(self) -> None:
        self.index.clear()
        self._entries.clear()
