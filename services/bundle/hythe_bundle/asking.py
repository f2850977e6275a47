"""Who asked for what is being done, as far as that is known: events tell it."""

from __future__ import annotations

import contextvars

from hythe.tracing import namespace

__all__ = ["namespace", "request_id"]

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("hythe_bundle_request_id", default="")
"""Id of the request in progress; empty for what the service does by itself."""
