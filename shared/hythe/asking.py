"""For whom work is done: who asked first, from service to service, so that an event names the user who asked."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asker:
    """The key that asked first, empty where nobody did or nobody knows, and its request."""

    caller: str = ""
    request_id: str = ""


NOBODY = Asker()
current: contextvars.ContextVar[Asker] = contextvars.ContextVar("hythe_asker", default=NOBODY)
"""For whom this task works; the bus sets it for each request."""


@contextmanager
def working_for(asker: Asker) -> Iterator[None]:
    """Do what the block does for `asker`; for work that comes in another way than over the bus."""
    token = current.set(asker)
    try:
        yield
    finally:
        current.reset(token)
