"""Who waits for replies on which inbox of a connection."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hythe.client.protocol import Frame
    from hythe.errors import HytheError


class Waiting:
    """Who waits on one inbox."""

    __slots__ = ("refused", "subject", "take")

    def __init__(
        self, subject: str, take: Callable[[Frame], object], refused: Callable[[HytheError], object] | None
    ) -> None:
        self.subject = subject
        self.take = take
        self.refused = refused


class WaitingBlock:
    """Registers somebody who waits for the time of a block."""

    __slots__ = ("_all", "_inbox", "_waiting")

    def __init__(self, everybody: dict[str, Waiting], inbox: str, waiting: Waiting) -> None:
        self._all = everybody
        self._inbox = inbox
        self._waiting = waiting

    def __enter__(self) -> str:
        self._all[self._inbox] = self._waiting
        return self._inbox

    def __exit__(self, *exc: object) -> None:
        self._all.pop(self._inbox, None)
