"""What an owner notes between the begin of a collection and its sweep: what is used in that time is not collected.

Whoever looks for a thing calls `Watch.touch` first and looks then; what is just being removed makes them wait until it is
gone. So nobody is told that something is there which a collection then removes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

MOST_NAMES = 1_000_000
"""So many names are remembered, some 100 MB; when more are used during a collection, that one removes nothing any more."""


class Watch:
    """Of one process of an owner; safe for several threads."""

    def __init__(self, instance: str, most_names: int = MOST_NAMES) -> None:
        """`instance` is this life of the process: a sweep that names another is refused."""
        self._instance = instance
        self._most_names = most_names
        self._moved = threading.Condition()
        self._generation: int | None = None
        self._touched: set[str] = set()
        self._overflown = False
        self._going: frozenset[str] = frozenset()

    def begin(self, generation: int) -> str:
        """Begin to note what is used, forget what was used before, and return the instance; an older collection is over."""
        with self._moved:
            self._generation = generation
            self._touched = set()
            self._overflown = False
        return self._instance

    def touch(self, names: Iterable[str]) -> None:
        """Note that these are used now, whether they exist or not; wait while one of them is being removed."""
        wanted = frozenset(names)
        with self._moved:
            if self._generation is not None and not self._overflown:
                self._touched |= wanted
                if len(self._touched) > self._most_names:
                    self._touched, self._overflown = set(), True
            self._moved.wait_for(lambda: self._going.isdisjoint(wanted))

    def is_current(self, generation: int, instance: str) -> bool:
        """Tell whether a sweep belongs to the collection that began last in this life of the process."""
        with self._moved:
            return generation == self._generation and instance == self._instance

    def may_go(self, generation: int, instance: str, name: str) -> bool:
        """Tell whether the sweep of a collection may remove `name`: it is current, and `name` wasn't used since it began."""
        with self._moved:
            return self._may_go(generation, instance, name)

    @contextmanager
    def taking(self, generation: int, instance: str, names: Collection[str]) -> Iterator[frozenset[str]]:
        """Give a block those of `names` that it may remove; who touches one of them meanwhile waits until the block ends."""
        with self._moved:
            free = frozenset(name for name in names if self._may_go(generation, instance, name)) - self._going
            self._going |= free
        try:
            yield free
        finally:
            with self._moved:
                self._going -= free
                self._moved.notify_all()

    def _may_go(self, generation: int, instance: str, name: str) -> bool:
        current = generation == self._generation and instance == self._instance
        return current and not self._overflown and name not in self._touched
