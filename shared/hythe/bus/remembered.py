"""Answers that are kept for a while, so that a repeated request is not done twice; bounded in number, bytes and time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hythe.bus.replies import Answer

KeyT = TypeVar("KeyT", bound=Hashable)

MAX_ANSWERS = 8192
MAX_BYTES = 16 << 20
REMEMBER_S = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, the hash of the request that it answers, and when it was kept (monotonic clock)."""

    body: str
    answer: Answer
    since: float


class Remembered(Generic[KeyT]):
    """The newest answers by key. Forgetting one early costs work, never correctness (ARCHITECTURE §3)."""

    def __init__(self, most: int = MAX_ANSWERS, most_bytes: int = MAX_BYTES, keep_s: float = REMEMBER_S) -> None:
        """Keep at most `most` answers of together `most_bytes` bytes, each for at most `keep_s` seconds."""
        self._most = most
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._kept: OrderedDict[KeyT, Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, key: KeyT, body: str, answer: Answer) -> None:
        """Remember `answer` in place of what `key` had, and forget the oldest where there is no room."""
        self.forget(key)
        self._kept[key] = Kept(body, answer, time.monotonic())
        self._bytes += len(answer.data)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self.forget(next(iter(self._kept)))
        self._forget_old()

    def get(self, key: KeyT) -> Kept | None:
        """Return what is remembered of `key`."""
        self._forget_old()
        return self._kept.get(key)

    def forget(self, key: KeyT) -> None:
        """Forget `key`, if it is remembered."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.answer.data)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._keep_s
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.since >= oldest:
                return
            self.forget(key)
