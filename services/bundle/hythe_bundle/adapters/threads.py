"""Long work in threads that its caller can give up: the thread ends soon, and nobody goes on before it has."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_given_up: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("hythe_given_up", default=None)


class GivenUp(Exception):
    """Nobody waits for this work any more."""


async def run(work: Callable[[], T]) -> T:
    """Run blocking `work` in a thread and return its result. A cancelled caller waits until the thread has ended.

    The thread ends early where `work` calls `check`.
    """
    stop = threading.Event()
    context = contextvars.copy_context()
    context.run(_given_up.set, stop)
    task = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, context.run, work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that it isn't reported as forgotten
        raise


def check() -> None:
    """Return if somebody still waits for what this thread does.

    Raises:
        GivenUp: nobody does.
    """
    stop = _given_up.get()
    if stop is not None and stop.is_set():
        raise GivenUp
