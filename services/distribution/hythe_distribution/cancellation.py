"""How work in a thread learns that nobody wants it any more."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable


class Cancelled(Exception):
    """The work was given up because nobody waits for it; never shown to anybody."""


class Cancellation:
    """One order to stop, given from any thread, seen by the thread that works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._numbers = itertools.count()
        self._callbacks: dict[int, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether the order was given."""
        return self._cancelled

    def cancel(self) -> None:
        """Give the order; what was registered with `on_cancel` is called in this thread. Repeating it does nothing."""
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback()

    def check(self) -> None:
        """Return if the work shall go on.

        Raises:
            Cancelled: it shall not.
        """
        if self._cancelled:
            raise Cancelled

    def wait(self, timeout_s: float) -> None:
        """Return after `timeout_s` seconds, if the work shall go on then.

        Raises:
            Cancelled: it shall not; raised as soon as the order is given.
        """
        woken = threading.Event()
        forget = self.on_cancel(woken.set)
        try:
            woken.wait(timeout_s)
        finally:
            forget()
        self.check()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called once at the order, at once if it was given; returns a function that takes this back.

        The callback must not raise or block: it wakes a call in which the working thread waits.
        """
        with self._lock:
            if not self._cancelled:
                number = next(self._numbers)
                self._callbacks[number] = callback
                return lambda: self._forget(number)
        callback()
        return lambda: None

    def _forget(self, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)
