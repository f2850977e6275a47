"""Threads for blocking work, bounded, with the caller's trace, and given up when the caller is cancelled."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from hythe_distribution.cancellation import Cancellation

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A fixed number of threads; further work waits in order of arrival."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(
        self,
        cancellation: Cancellation | None,
        function: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call `function` in a thread and return its result; its spans lie below the caller's.

        A cancelled caller does not wait for the thread, but gives `cancellation` the order to stop it.
        """
        context = contextvars.copy_context()
        work = asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: context.run(function, *args, **kwargs)
        )
        try:
            return await work
        except asyncio.CancelledError:
            if cancellation is not None:
                cancellation.cancel()
            raise

    def begin(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `function` called in a thread, from a thread that goes on meanwhile; its spans lie below the caller's."""
        context = contextvars.copy_context()
        return self._executor.submit(lambda: context.run(function, *args, **kwargs))

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)
