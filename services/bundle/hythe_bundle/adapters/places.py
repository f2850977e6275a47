"""Where snapshots lie: ``snapshots/<number>``, one directory for each, and what becomes of those that nobody needs.

A number is never used again. What lies in a place is its layout's affair.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.linux import libc
from hythe_bundle.adapters import in_use
from hythe_bundle.adapters.removal import remove_tree

log = logging.getLogger(__name__)


class Places:
    """The directories of all snapshots below one root.

    Attributes:
        root: directory whose file system they are on.
        directory: where they lie.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "snapshots"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._next = 1
        self._kept_up_to = 0
        self._in_the_making: set[int] = set()
        self._held: Counter[int] = Counter()
        self._removals: dict[int, asyncio.Task[bool]] = {}

    def path(self, number: int) -> Path:
        """Return the place of that number."""
        return self.directory / str(number)

    def present(self) -> set[int]:
        """Return the numbers of all places on the disk."""
        return {int(entry.name) for entry in self.directory.iterdir() if entry.name.isascii() and entry.name.isdigit()}

    def begin_after(self, number: int) -> None:
        """Give greater numbers than this from now on."""
        self._next = max(self._next, number + 1)

    def keep_up_to(self, number: int) -> None:
        """Never take places up to this number for orphans: the records about them are lost."""
        self._kept_up_to = number

    def new(self) -> int:
        """Return a new number, whose place is being made until `made` or `remove_later`."""
        number = self._next
        self._next += 1
        self._in_the_making.add(number)
        return number

    def made(self, number: int) -> None:
        """Take notice that a record speaks of a place now."""
        self._in_the_making.discard(number)

    @contextmanager
    def held(self, numbers: Iterable[int]) -> Iterator[None]:
        """Know while the block runs that something reads these places, so that they are not removed."""
        counted = Counter(numbers)
        self._held += counted
        try:
            yield
        finally:
            self._held -= counted

    def is_held(self, number: int) -> bool:
        """Tell whether something reads a place."""
        return number in self._held

    def orphans(self, recorded: set[int]) -> list[int]:
        """Return the places that no record speaks of, but for those that are being made or removed."""
        free = self.present() - recorded - self._in_the_making - set(self._removals)
        return sorted(number for number in free if number > self._kept_up_to)

    def lost(self, recorded: set[int]) -> set[int]:
        """Return the places whose records are lost."""
        return {number for number in self.present() - recorded if number <= self._kept_up_to}

    def remove_orphan(self, number: int) -> bool:
        """Remove a place with what is mounted in it, unless it is mounted elsewhere; return whether it is gone. Blocks."""
        place = self.path(number)
        for point in in_use.points_in(place):
            try:
                libc.umount(point, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
            except OSError as error:
                log.warning("%s could not be unmounted: %s", point, error)
        if point := in_use.mounted_at(place):
            log.warning("kept snapshot directory %d: it has no record, but is mounted at %s", number, point)
            return False
        return self._remove(number)

    def remove_later(self, number: int, *, orphan: bool = False) -> asyncio.Task[bool]:
        """Remove a place beside other work; the result says whether it is gone.

        What a crash or an error leaves of it, the next clean-up removes.
        """
        work = self.remove_orphan if orphan else self._remove
        loop = asyncio.get_running_loop()
        # not in the caller's context: its span has ended when this does
        task = loop.create_task(
            asyncio.to_thread(work, number), name=f"remove-snapshot-{number}", context=contextvars.Context()
        )
        self._removals[number] = task
        task.add_done_callback(lambda _: self._removals.pop(number))
        self._in_the_making.discard(number)
        return task

    def _remove(self, number: int) -> bool:
        try:
            remove_tree(self.path(number))
        except OSError as error:
            log.warning("snapshot directory %d could not be removed: %s", number, error)
            return False
        return True

    async def close(self) -> None:
        """Wait for removals in progress."""
        if self._removals:
            await asyncio.wait(list(self._removals.values()))
