"""Where snapshots lie: ``snapshots/<number>``, one directory for each, and what becomes of those that nobody needs.

A number is never used again. What lies in a place is its layout's affair.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hythe.linux import libc, mountinfo
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
        self._removals: dict[asyncio.Task[int], frozenset[int]] = {}

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

    def held_now(self) -> set[int]:
        """Return the numbers of the places that something reads."""
        return set(self._held)

    def orphans(self, recorded: set[int]) -> list[int]:
        """Return the places that no record speaks of, but for those that are being made or removed."""
        free = (self.present() - recorded - self._in_the_making).difference(*self._removals.values())
        return sorted(number for number in free if number > self._kept_up_to)

    def lost(self, recorded: set[int]) -> set[int]:
        """Return the places whose records are lost."""
        return {number for number in self.present() - recorded if number <= self._kept_up_to}

    def remove_orphans(self, numbers: Sequence[int]) -> int:
        """Remove places with what is mounted in them, but not what is mounted elsewhere; return how many are gone. Blocks."""
        for number in numbers:
            for point in reversed(mountinfo.points_below(self.path(number))):
                try:
                    libc.umount(point, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
                except OSError as error:
                    log.warning("%s could not be unmounted: %s", point, error)
        gone = 0
        for number in numbers:
            if point := in_use.mounted_at(self.path(number)):
                log.warning("kept snapshot directory %d: it has no record, but is mounted at %s", number, point)
            else:
                gone += self._remove(number)
        return gone

    async def clean_up(self, recorded: set[int]) -> int:
        """Do `remove_orphans` with all that are orphans now."""
        numbers = self.orphans(recorded)
        task = self._begin(numbers, lambda: self.remove_orphans(numbers))
        await asyncio.wait([task])
        return task.result()

    def remove_later(self, number: int) -> asyncio.Task[int]:
        """Remove a place beside other work. What a crash or an error leaves of it, the next clean-up removes."""
        return self._begin([number], lambda: int(self._remove(number)))

    def _begin(self, numbers: Sequence[int], work: Callable[[], int]) -> asyncio.Task[int]:
        """Run what removes places in a thread."""
        task = asyncio.get_running_loop().create_task(
            asyncio.to_thread(work),
            name="remove-snapshots",
            context=contextvars.Context(),  # not the caller's: its span has ended when this does
        )
        self._removals[task] = frozenset(numbers)
        task.add_done_callback(self._removals.pop)
        self._in_the_making -= self._removals[task]
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
            await asyncio.wait(list(self._removals))
