"""Waiting in the event loop for descriptors: pidfds of processes, FIFOs."""

from __future__ import annotations

import asyncio


async def readable(*fds: int, timeout_s: float | None = None) -> None:
    """Return when one of `fds` can be read without blocking; a pidfd can when its process is no more.

    Nothing else in this event loop may wait for the same descriptors.

    Raises:
        TimeoutError: not within `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    for fd in fds:
        loop.add_reader(fd, ready)
    try:
        async with asyncio.timeout(timeout_s):
            await future
    finally:
        for fd in fds:
            loop.remove_reader(fd)
