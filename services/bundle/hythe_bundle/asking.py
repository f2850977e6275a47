"""Who asked for what is being done, as far as that is known: events tell it."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

from hythe.tracing import namespace

__all__ = ["caller", "namespace", "request", "request_id"]

caller: contextvars.ContextVar[str] = contextvars.ContextVar("hythe_bundle_caller", default="")
"""Key that asks; empty where the bus doesn't say, and for what the service does by itself."""
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("hythe_bundle_request_id", default="")
"""Id of the request in progress; empty for what the service does by itself."""


@contextmanager
def request(asked_by: str, asked_in: str) -> Iterator[None]:
    """Do what the block does for a request: its caller and its id."""
    tokens = caller.set(asked_by), request_id.set(asked_in)
    try:
        yield
    finally:
        caller.reset(tokens[0])
        request_id.reset(tokens[1])
