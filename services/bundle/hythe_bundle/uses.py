"""Which snapshots are in use, as far as no record says it: looked at by a request in progress, or since a collection began.

Whoever looks for a snapshot notes that first and looks then; what is just being collected makes them wait until it is gone.
So nobody is told that a snapshot is there which a collection then removes. For the event loop's thread alone.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HELD = "in use"
SINCE = "used since"
MOST_NAMES = 500_000
"""So many names are remembered, some 100 MB; when more are used during a collection, that one removes nothing any more."""


@dataclass(slots=True, eq=False)
class _Request:
    names: set[str] = field(default_factory=set)
    ended: bool = False


_request: contextvars.ContextVar[_Request | None] = contextvars.ContextVar("hythe_bundle_request", default=None)


class Uses:
    """The uses of one snapshotter's snapshots, by name."""

    def __init__(self, most_names: int = MOST_NAMES) -> None:
        self._most_names = most_names
        self._collecting = False
        self._since: set[str] = set()
        self._overflown = False
        self._held: Counter[str] = Counter()
        self._going: dict[str, asyncio.Event] = {}

    @contextmanager
    def request(self) -> Iterator[None]:
        """Keep all that the block notes, in the tasks that it begins as well, until the block ends."""
        request = _Request()
        token = _request.set(request)
        try:
            yield
        finally:
            _request.reset(token)
            request.ended = True  # what it has begun and left to others notes nothing for it any more
            for name in request.names:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

    def begin(self) -> None:
        """Begin a collection: forget what was used before, but for requests in progress, and note what is used from now on."""
        self._collecting = True
        self._since = set()
        self._overflown = False

    async def note(self, *names: str) -> None:
        """Note that snapshots are used now, whether they exist or not; wait while one of them is being collected."""
        for name in names:
            self._note(name)
        for name in names:
            while (gone := self._going.get(name)) is not None:
                await gone.wait()

    def _note(self, name: str) -> None:
        request = _request.get()
        if request is not None and not request.ended and name not in request.names:
            request.names.add(name)
            self._held[name] += 1
        if self._collecting and not self._overflown:
            self._since.add(name)
            if len(self._since) > self._most_names:
                self._since, self._overflown = set(), True

    def why(self, name: str) -> str:
        """Return why a collection leaves a snapshot alone; empty if it need not."""
        if name in self._held:
            return HELD
        return SINCE if self._overflown or name in self._since else ""

    def all(self) -> dict[str, str]:
        """Return the names of all that is used, and why; when too many were used to tell, only those of requests."""
        return {**dict.fromkeys(self._since, SINCE), **dict.fromkeys(self._held, HELD)}

    @contextmanager
    def taking(self, name: str) -> Iterator[str]:
        """Give a block what `why` says; if that is nothing, who notes the name meanwhile waits until the block ends."""
        reason = self.why(name)
        if reason:
            yield reason
            return
        gone = self._going[name] = asyncio.Event()
        try:
            yield ""
        finally:
            del self._going[name]
            gone.set()
