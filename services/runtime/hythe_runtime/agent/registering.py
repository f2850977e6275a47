"""The agent tells metadata that it is the one of its host; nothing waits for that, and metadata being away hinders nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hythe.errors import AlreadyExists, HytheError
from hythe_runtime.agent.ports import Registry

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Registering:
    """Registers the agent at its start, and again whenever the bus was away."""

    def __init__(self, registry: Registry, refused: Callable[[HytheError], None]) -> None:
        """`refused` is told when another agent has this host's name: this one must end then, for both would be obeyed."""
        self._registry = registry
        self._refused = refused
        self._due = asyncio.Event()
        self._due.set()

    def bus_is_back(self) -> None:
        """Register again: metadata may be another one by now."""
        self._due.set()

    async def run(self) -> None:
        """Register whenever it is due, until cancelled, or until it is refused."""
        pause_s = 0.0
        while True:
            await self._wait(pause_s)
            try:
                await self._registry.register()
            except AlreadyExists as error:
                self._refused(error)
                return
            except HytheError as error:
                if pause_s == 0:
                    log.warning("the host could not be registered yet", extra={"cause": error.whole})
                pause_s = min(max(FIRST_PAUSE_S, pause_s * 2), LONGEST_PAUSE_S)
            else:
                if pause_s:
                    log.info("the host is registered")
                pause_s = 0.0

    async def _wait(self, pause_s: float) -> None:
        """Wait until registering is due: after a failure that is when `pause_s` have passed, or the bus is back."""
        try:
            await asyncio.wait_for(self._due.wait(), pause_s or None)
        except TimeoutError:
            pass
        self._due.clear()
