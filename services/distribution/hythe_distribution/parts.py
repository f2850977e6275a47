"""Parts of a large blob that spare connections fetch ahead into buffers, so few that a process's memory stays small."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

from hythe.errors import HytheError
from hythe.ports.content import MAX_CHUNK_BYTES
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.registry import Body
from hythe_distribution.workers import Workers

Open = Callable[[int, int | None, Cancellation], Body]
"""Begins to read a blob at an offset, so many bytes or all to the end; see `hythe_distribution.registry.Registry.open`."""


class Spares:
    """The buffers for parts and a thread for each, shared by all downloads of a process.

    Each download beside the first takes a connection, and so leaves one spare connection less.

    Attributes:
        count: how many there are while one download runs.
        threads: as many; who has a buffer never waits for one.
    """

    def __init__(self, count: int, part_bytes: int) -> None:
        """Hold at most `count` parts of `part_bytes` at once; a buffer takes memory from its first use until no download runs."""
        self.count = count
        self.threads = Workers("part", max(1, count))
        self._part_bytes = part_bytes
        self._lock = threading.Lock()
        self._idle: list[memoryview] = []
        self._used = 0
        self._downloads = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Count a download while the block runs."""
        with self._lock:
            self._downloads += 1
        try:
            yield
        finally:
            with self._lock:
                self._downloads -= 1
                if not self._downloads:
                    self._idle.clear()  # a service at rest holds no buffers

    @property
    def free(self) -> bool:
        """Whether a buffer could be had just now."""
        return self._used + max(0, self._downloads - 1) < self.count

    def take(self) -> memoryview | None:
        """Return a buffer, or None if no connection is spare."""
        with self._lock:
            if not self.free:
                return None
            self._used += 1
            return self._idle.pop() if self._idle else memoryview(bytearray(self._part_bytes))

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back; nobody uses it any more."""
        with self._lock:
            self._used -= 1
            self._idle.append(buffer)

    def close(self) -> None:
        """End the threads; to be called when no download runs."""
        self.threads.close()


class Part:
    """One part on its way: a spare connection fills its buffer, the download's own thread takes it from the front.

    Attributes:
        start, end: which bytes of the blob it has, `end` excluded.
        work: the filling; it raises what is no failure of the registry.
    """

    def __init__(self, start: int, end: int, buffer: memoryview) -> None:
        self.start = start
        self.end = end
        self.buffer = buffer
        self.work: Future[None]
        self._filled = 0
        self._ended = False
        self._moved = threading.Condition()

    def fetch(self, open_body: Open, cancellation: Cancellation) -> None:
        """Fill the buffer as far as the registry gives; what goes wrong leaves the rest to the download's own thread."""
        try:
            cancellation.check()
            with open_body(self.start, self.end - self.start, cancellation) as body:
                if body.ranged and body.offset == self.start:
                    self._fill(body)
        except (HytheError, Cancelled):
            pass  # the download's own thread asks for the rest, and meets the error itself if it lasts
        finally:
            with self._moved:
                self._ended = True
                self._moved.notify_all()

    def _fill(self, body: Body) -> None:
        wanted = self.end - self.start
        while self._filled < wanted and (count := body.readinto(self.buffer[self._filled : wanted])):
            with self._moved:
                self._filled += count
                self._moved.notify_all()

    def wait_beyond(self, taken: int) -> int:
        """Return how many bytes are in the buffer, as soon as they are more than `taken` or no more will come."""
        with self._moved:
            self._moved.wait_for(lambda: self._filled > taken or self._ended)
            return self._filled


class Ahead:
    """The parts of one download that are on their way, in the order of the blob; used by its own thread alone.

    Attributes:
        count: parts asked for so far.
    """

    def __init__(self, spares: Spares, open_body: Open, end: int, cancellation: Cancellation) -> None:
        """Fetch nothing yet; all parts lie before byte `end`, and `cancellation` ends them."""
        self.count = 0
        self._spares = spares
        self._open_body = open_body
        self._end = end
        self._cancellation = Cancellation()
        self._forget = cancellation.on_cancel(self._cancellation.cancel)
        self._parts: deque[Part] = deque()
        self._most = spares.count

    @property
    def start(self) -> int:
        """Where the first of them begins; the end of the blob if none is on its way."""
        return self._parts[0].start if self._parts else self._end

    @property
    def possible(self) -> bool:
        """Whether a further part could be asked for just now."""
        return len(self._parts) < self._most and self._spares.free

    def spread(self, after: int) -> int:
        """Ask for as many parts as there are spare connections, from the last one's end on or from `after`; return how many."""
        begun = 0
        start = self._parts[-1].end if self._parts else after
        while start < self._end and len(self._parts) < self._most and (buffer := self._spares.take()):
            part = Part(start, min(self._end, start + len(buffer)), buffer)
            part.work = self._spares.threads.begin(part.fetch, self._open_body, self._cancellation)
            self._parts.append(part)
            start = part.end
            begun += 1
        self.count += begun
        return begun

    def drain(self, write: Callable[[memoryview], None]) -> None:
        """Hand on the first part's bytes as they come, in pieces of at most 1 MiB, and let go of it.

        They may be fewer than they should: then the rest is to be fetched otherwise, and one spare connection less is
        used from now on, for a registry may not allow as many.
        """
        part = self._parts[0]
        taken = 0
        while (filled := part.wait_beyond(taken)) > taken:
            piece = part.buffer[taken : min(filled, taken + MAX_CHUNK_BYTES)]
            write(piece)
            taken += len(piece)
        part.work.result()
        self._spares.give(self._parts.popleft().buffer)
        if part.start + taken < part.end:
            self._most -= 1

    def close(self) -> None:
        """Give up what is on its way, and all buffers back; repeating it does nothing."""
        self._forget()
        self._cancellation.cancel()
        wait([part.work for part in self._parts])
        while self._parts:
            self._spares.give(self._parts.popleft().buffer)
