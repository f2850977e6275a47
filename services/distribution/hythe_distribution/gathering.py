"""Doing several things at once, where the first error ends the others and is the one that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from hythe.errors import HytheError

T = TypeVar("T")


async def all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run `works` at once and return their results in order.

    Raises:
        BaseException: the first error; the other works are cancelled and have ended then. A fault of ours comes before an
            error that the closed set has a word for.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    faults = [error for error in failures.exceptions if not isinstance(error, HytheError)]
    return (faults or list(failures.exceptions))[0]
