"""Small documents that several want at once: the first fetches each, and the others get it from memory.

A document comes into the store only once all of its image was found to be sound. Until then it is remembered here.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from hythe.digest import Digest
from hythe_distribution.cancellation import Cancellation

REMEMBERED_BYTES = 8 << 20
REMEMBERED_S = 60.0
LOOK_S = 0.05


class SharedDocuments:
    """Documents by digest, a few and for a short while; safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = threading.Condition()
        self._fetching: set[Digest] = set()
        self._remembered: OrderedDict[Digest, tuple[bytes, float]] = OrderedDict()

    def get(self, digest: Digest, cancellation: Cancellation, fetch: Callable[[], bytes]) -> bytes:
        """Return a document: one that is remembered, or what `fetch` brings, which checks that it has that digest.

        Where another thread is fetching it, this one waits; if that one fails, it fetches itself.

        Raises:
            Cancelled: nobody wants it any more while it waits.
            HytheError: whatever `fetch` raises; nothing is remembered then.
        """
        with self._moved:
            while digest in self._fetching:
                cancellation.check()
                self._moved.wait(LOOK_S)
            found = self._remembered.get(digest)
            if found is not None and self._clock() < found[1]:
                return found[0]
            self._fetching.add(digest)
        try:
            raw = fetch()
            with self._moved:
                self._remember(digest, raw)
            return raw
        finally:
            with self._moved:
                self._fetching.discard(digest)
                self._moved.notify_all()

    def _remember(self, digest: Digest, raw: bytes) -> None:
        now_s = self._clock()
        self._remembered[digest] = (raw, now_s + REMEMBERED_S)
        size_bytes = sum(len(data) for data, _ in self._remembered.values())
        while self._remembered:
            oldest, (data, until_s) = next(iter(self._remembered.items()))
            if size_bytes <= REMEMBERED_BYTES and now_s < until_s:
                break
            del self._remembered[oldest]
            size_bytes -= len(data)
