"""Watching records: what changed since a revision, in order and without gaps, or a clear word that it can't be told."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from hythe.errors import OutOfRange
from hythe_metadata.records import Change, Read, RecordStore, View


@dataclass(frozen=True, slots=True)
class ChangesWish:
    """What somebody wants to know.

    Attributes:
        after: revision that was seen last; None only to learn how far the store is.
        era: era that was seen last; None for whichever.
        limit: about how many changes at once; those of one revision come together.
        wait_s: seconds to wait for a first one.
        kinds: of records, all if there are none.
    """

    after: int | None = None
    era: int | None = None
    limit: int = 500
    wait_s: float = 0.0
    kinds: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed, oldest first; whoever asks again from `revision` misses nothing and sees nothing twice."""

    changes: tuple[Change, ...]
    revision: int
    era: int


class Watch:
    """Answers those who watch a store."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._changed = asyncio.Event()
        store.on_change(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self, wish: ChangesWish) -> Changes:
        """Return what changed, waiting for a first change as long as is wished.

        Raises:
            OutOfRange: it can't be told, for the log begins later or the store was restored (details ``newest``, ``era``).
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wish.wait_s
        after = wish.after
        while True:
            changed = self._changed  # taken before the look, so that no change slips in between
            found = await self._store.read(look(after, wish.era, wish.limit, wish.kinds))
            if wish.after is None or found.changes or loop.time() >= until:
                return found
            if found.revision == after:
                try:
                    await asyncio.wait_for(changed.wait(), until - loop.time())
                except TimeoutError:
                    return found
            after = found.revision


def look(after: int | None, era: int | None, limit: int, kinds: Collection[str] = ()) -> Read[Changes]:
    """Return what changed beyond a revision, of some kinds of records.

    Raises:
        OutOfRange: (of the question) it can't be told.
    """

    def read(view: View) -> Changes:
        newest = view.moment.revision - 1
        if after is None:
            return Changes((), newest, view.moment.era)
        if after > newest or era not in (None, view.moment.era):
            raise _restored(after, era, newest, view.moment.era)
        try:
            found = view.changes(after, limit)
        except OutOfRange as error:
            error.details.update(newest=str(newest), era=str(view.moment.era))
            raise
        revision = found[-1].revision if found else after
        return Changes(tuple(c for c in found if not kinds or c.key.kind in kinds), revision, view.moment.era)

    return read


def _restored(after: int, era: int | None, newest: int, present_era: int) -> OutOfRange:
    seen = f"revision {after}" + (f" of era {era}" if era is not None else "")
    return OutOfRange(
        f"read changes after {seen}: the store is at revision {newest} of era {present_era}",
        cause="it is another one, or was restored from a copy",
        next_step="read everything again, then watch from there",
        details={"newest": str(newest), "era": str(present_era)},
    )
