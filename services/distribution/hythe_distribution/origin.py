"""Who asked for what is being done, as far as that is known: it goes with each event."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """A request.

    Attributes:
        caller: key that asked, as the bus fixes it; empty where it doesn't say.
    """

    caller: str = ""
    request_id: str = ""


current: contextvars.ContextVar[Origin] = contextvars.ContextVar("hythe_origin", default=Origin())  # noqa: B039 (frozen)
