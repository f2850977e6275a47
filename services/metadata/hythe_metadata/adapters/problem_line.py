"""How a program that `hythe metadata` runs tells what went wrong: the error as a line of JSON."""

from __future__ import annotations

import json

from hythe.errors import HytheError


def as_line(error: HytheError) -> str:
    """Return `error` as `hythe.client.problem.decode` reads it."""
    return json.dumps(
        {
            "code": error.code,
            "message": error.message,
            "cause": error.cause,
            "next_step": error.next_step,
            "outcome": error.outcome,
        }
    )
