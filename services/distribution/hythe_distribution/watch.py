"""Which blobs are in use, and which were used since a collection began: none of them is collected.

On top of `hythe_distribution.since_begin`: what a request has looked at stays until the request ends, and what somebody was
given an address of stays as long as the address is good.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from hythe.clock import boottime_ms
from hythe.digest import Digest
from hythe_distribution.since_begin import SinceBegin

IN_USE = "in use"
USED_SINCE = "used since"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Which collection found first that no namespace sees a blob, and when, on CLOCK_BOOTTIME."""

    generation: int
    since_ms: int


class _Request:
    """What a request has looked at; None once it has ended."""

    def __init__(self) -> None:
        self.digests: set[Digest] | None = set()


_request: ContextVar[_Request | None] = ContextVar("hythe_content_request", default=None)


class Watch:
    """Notes the use of blobs in one process; safe for several threads."""

    def __init__(self, clock_ms: Callable[[], int] = boottime_ms) -> None:
        self._clock_ms = clock_ms
        self._since_begin = SinceBegin()
        self._generation = 0
        self._lock = threading.Lock()
        self._in_use: Counter[Digest] = Counter()
        self._promised: dict[Digest, int] = {}
        self._unseen: dict[Digest, Unseen] = {}

    def touch(self, digests: Iterable[Digest]) -> None:
        """Note that blobs are used now, and wait while one of them is being taken out; call it before looking for them."""
        wanted = frozenset(digests)
        request = _request.get()
        with self._lock:
            for digest in wanted:
                self._unseen.pop(digest, None)
            if request is not None and request.digests is not None:
                self._in_use.update(wanted - request.digests)
                request.digests |= wanted
        self._since_begin.touch(map(str, wanted))

    def promise(self, digest: Digest, for_s: float) -> None:
        """Keep a blob for `for_s` seconds, for who was given an address of it."""
        now_ms = self._clock_ms()
        with self._lock:
            self._promised = {each: until_ms for each, until_ms in self._promised.items() if until_ms > now_ms}
            self._promised[digest] = max(self._promised.get(digest, 0), now_ms + int(for_s * 1000))

    @contextmanager
    def request(self) -> Iterator[None]:
        """Keep what is touched in this context while the block runs, in whatever thread."""
        request = _Request()
        token = _request.set(request)
        try:
            yield
        finally:
            _request.reset(token)
            with self._lock:
                for digest in request.digests or ():
                    self._in_use[digest] -= 1
                    if not self._in_use[digest]:
                        del self._in_use[digest]
                request.digests = None

    def begin(self, generation: int) -> None:
        """A collection begins: what was used before it, and isn't any more, counts no longer."""
        self._generation = generation
        self._since_begin.begin()

    @contextmanager
    def taking(self, digests: Collection[Digest]) -> Iterator[Mapping[Digest, str]]:
        """Give a block why some of `digests` must stay; the others it may take out, and who wants them waits meanwhile."""
        with self._since_begin.taking([str(digest) for digest in digests]) as free:
            yield {digest: reason for digest in digests if (reason := self._reason(digest, str(digest) in free))}

    def reason(self, digest: Digest) -> str:
        """Return why a blob must stay: ``in use`` or ``used since``; empty if it need not."""
        return self._reason(digest, self._since_begin.may_go(str(digest)))

    def unseen(self, digests: Iterable[Digest]) -> Mapping[Digest, Unseen]:
        """Note that no namespace sees these blobs, and return since when that is so and nobody has used them."""
        with self._lock:
            first = Unseen(self._generation, self._clock_ms())
            self._unseen = {digest: self._unseen.get(digest, first) for digest in digests}
            return dict(self._unseen)

    def _reason(self, digest: Digest, untouched: bool) -> str:
        with self._lock:
            if digest in self._in_use or self._promised.get(digest, 0) > self._clock_ms():
                return IN_USE
        return "" if untouched else USED_SINCE
