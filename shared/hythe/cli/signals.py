"""Signals that are passed on to a container instead of ending the command."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Within the block signals are collected, and wake a loop that polls `wakeup`.

    Attributes:
        pending: numbers of the signals that came, oldest first.
    """

    def __init__(self) -> None:
        self.pending: list[int] = []
        self.wakeup, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._previous = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in FORWARDED:
            self._before[number] = signal.signal(number, self._collect)
        return self

    def _collect(self, number: int, frame: object) -> None:
        self.pending.append(number)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous)
        os.close(self.wakeup)
        os.close(self._writing)
