"""Directories of others are taken by one container after the other; who comes early waits for one that is just leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hythe.errors import FailedPrecondition

GRACE_S = 1.0
"""How long to wait: clean-up goes on for a moment after `hythe bundle run --rm` has ended."""

T = TypeVar("T")


class Adopting:
    """Lets one at a time take a directory, or remove it."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._taking = asyncio.Lock()
        self._released = asyncio.Event()

    def released(self) -> None:
        """Tell that the bundle of a container has gone."""
        self._released.set()
        self._released = asyncio.Event()

    async def attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` and return its result, again each time a bundle has gone meanwhile, if a container stood in its way.

        Raises:
            FailedPrecondition: a container still does after the time of grace (``kind=container``).
            HytheError: what else `work` raises.
        """
        deadline = asyncio.get_running_loop().time() + self._grace_s
        async with self._taking:
            while True:
                released = self._released
                try:
                    return await work()
                except FailedPrecondition as error:
                    if error.details.get("kind") != "container":
                        raise
                    try:
                        async with asyncio.timeout_at(deadline):
                            await released.wait()
                    except TimeoutError:
                        raise error from None
