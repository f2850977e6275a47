"""What owners in memory note between the begin of a collection and its sweep."""

from __future__ import annotations

from collections.abc import Iterable


class Watch:
    """Of one life of an owner: a sweep that names another is refused."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._generation: int | None = None
        self._touched: set[str] = set()

    def begin(self, generation: int) -> str:
        """Forget what was used before, and return the instance; an older collection is over."""
        self._generation = generation
        self._touched = set()
        return self._instance

    def touch(self, names: Iterable[str]) -> None:
        """Note that these are used now, whether they exist or not."""
        self._touched |= set(names)

    def is_current(self, generation: int, instance: str) -> bool:
        """Tell whether a sweep belongs to the collection that began last in this life."""
        return generation == self._generation and instance == self._instance

    def may_go(self, generation: int, instance: str, name: str) -> bool:
        """Tell whether the sweep of a collection may remove `name`: it is current, and `name` wasn't used since it began."""
        return self.is_current(generation, instance) and name not in self._touched
