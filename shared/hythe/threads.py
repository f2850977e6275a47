"""Work that nobody can stop half-way, waited for to its end: a cancelled caller goes on only when it is over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

log = logging.getLogger(__name__)

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
    running = asyncio.get_running_loop().run_in_executor(None, context.run, work)
    return await until_end(running, stop.set)


async def until_end(work: Awaitable[T], give_up: Callable[[], None] = lambda: None) -> T:
    """Wait for `work`; a cancelled caller waits too, so that nothing goes on behind the back of a clean-up.

    Args:
        give_up: called when the caller is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        give_up()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GivenUp):
            log.info("cancelled work failed", extra={"cause": str(error)})
        raise


def check() -> None:
    """Return if somebody still waits for what this thread does.

    Raises:
        GivenUp: nobody does.
    """
    stop = _given_up.get()
    if stop is not None and stop.is_set():
        raise GivenUp
