"""Archives on their way in and out: what was asked for over the bus, until its bytes come or go over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hythe.errors import NotFound
from hythe.identifiers import new_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    order: T
    until_s: float


class Orders(Generic[T]):
    """Orders by id, each taken once and only for a while; safe for several threads."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting[T]] = {}

    def put(self, order: T) -> str:
        """Keep an order and return its id."""
        now_s = self._clock()
        order_id = new_id()
        with self._lock:
            self._waiting = {key: each for key, each in self._waiting.items() if each.until_s >= now_s}
            self._waiting[order_id] = _Waiting(order, now_s + self._lifetime_s)
        return order_id

    def take(self, order_id: str) -> T:
        """Return an order and forget it.

        Raises:
            NotFound: there is none of that id (any more).
        """
        with self._lock:
            found = self._waiting.pop(order_id, None)
        if found is None or found.until_s < self._clock():
            raise NotFound("find the order of an archive: it has run out or was taken", details={"kind": "order"})
        return found.order
