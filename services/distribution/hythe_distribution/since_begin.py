"""What was used since a collection began: none of it goes.

Whoever looks for a thing calls `SinceBegin.touch` first and looks then; what is just being removed makes them wait until it
is gone. So nobody is told that something is there which a collection then removes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

MOST_NAMES = 1_000_000
"""So many names are remembered, some 100 MB; when more are used during a collection, that one removes nothing any more."""


class SinceBegin:
    """Of one process; safe for several threads."""

    def __init__(self, most_names: int = MOST_NAMES) -> None:
        self._most_names = most_names
        self._moved = threading.Condition()
        self._begun = False
        self._touched: set[str] = set()
        self._overflown = False
        self._going: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Begin to note what is used, and forget what was used before."""
        with self._moved:
            self._begun = True
            self._touched = set()
            self._overflown = False

    def touch(self, names: Iterable[str]) -> None:
        """Note that these are used now, whether they exist or not; wait while one of them is being removed."""
        wanted = frozenset(names)
        with self._moved:
            if self._begun and not self._overflown:
                self._touched |= wanted
                if len(self._touched) > self._most_names:
                    self._touched, self._overflown = set(), True
            self._moved.wait_for(lambda: self._going.isdisjoint(wanted))

    def may_go(self, name: str) -> bool:
        """Tell whether a collection has begun, and `name` wasn't used since."""
        with self._moved:
            return self._may_go(name)

    @contextmanager
    def taking(self, names: Collection[str]) -> Iterator[frozenset[str]]:
        """Give a block those of `names` that it may remove; who touches one of them meanwhile waits until the block ends."""
        with self._moved:
            free = frozenset(name for name in names if self._may_go(name)) - self._going
            self._going |= free
        try:
            yield free
        finally:
            with self._moved:
                self._going -= free
                self._moved.notify_all()

    def _may_go(self, name: str) -> bool:
        return self._begun and not self._overflown and name not in self._touched
