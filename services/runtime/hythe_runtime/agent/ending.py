"""Tasks that are wanted no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel `tasks` and return when all of them are over, whatever they ended with."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
