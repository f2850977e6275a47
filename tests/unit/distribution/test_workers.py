"""Threads for blocking work carry their caller's context with them."""

from __future__ import annotations

import contextvars
import threading

import pytest

from hythe_distribution.workers import Workers

NUMBER: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def test_work_begun_from_a_thread_has_its_context_and_its_own_end() -> None:
    """What a download's thread hands to another belongs to the same trace, and a fault in it is not lost."""
    workers = Workers("work", 1)
    NUMBER.set(7)
    assert workers.begin(lambda: (NUMBER.get(), threading.current_thread().name[:4])).result() == (7, "work")
    with pytest.raises(ZeroDivisionError):
        workers.begin(lambda: 1 // 0).result()
    workers.close()
