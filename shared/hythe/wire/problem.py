"""The only translation between errors and their form on the wire."""

from __future__ import annotations

from typing import Literal

import pydantic

from hythe.errors import BY_CODE, HytheError, Internal
from hythe.wire.base import Reply


class Problem(Reply):
    """An error as it travels; fields as in `hythe.errors.HytheError`."""

    code: str
    message: str
    phase: str = ""
    host: str = ""
    cause: str = ""
    outcome: Literal["not started", "done", "failed", "unknown"] = "unknown"
    next_step: str = ""
    trace_id: str = ""
    service: str = ""
    details: dict[str, str] = {}


def to_problem(error: HytheError) -> Problem:
    """Return the wire form of `error`."""
    return Problem(
        code=error.code,
        message=error.message,
        phase=error.phase,
        host=error.host,
        cause=error.cause,
        outcome=error.outcome,
        next_step=error.next_step,
        trace_id=error.trace_id,
        service=error.service,
        details=error.details,
    )


def from_problem(data: bytes) -> HytheError:
    """Return the error that `data` spells; what cannot be read becomes Internal with an unknown outcome."""
    try:
        problem = Problem.model_validate_json(data)
    except pydantic.ValidationError as error:
        return Internal("read an error reply: not understood", cause=str(error), outcome="unknown")
    return BY_CODE.get(problem.code, Internal)(
        problem.message,
        phase=problem.phase,
        host=problem.host,
        cause=problem.cause,
        outcome=problem.outcome,
        next_step=problem.next_step,
        trace_id=problem.trace_id,
        service=problem.service,
        details=problem.details,
    )
