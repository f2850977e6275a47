"""Operations: requests that may take more than 2 s (ARCHITECTURE §3).

Every reply to an operation bears the header ``hythe-state``: ``accepted`` at once, ``progress`` with a payload,
``alive`` at least every second, ``done`` with the result or a `Problem`. A plain request is answered by one ``done``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import Reply, Request

STATE_HEADER = "hythe-state"
REQUEST_ID_HEADER = "hythe-request-id"
BEGIN_BEFORE_HEADER = "hythe-begin-before"
TIMEOUT_HEADER = "hythe-timeout-ms"
ERROR_HEADER = "nats-service-error"
ERROR_CODE_HEADER = "nats-service-error-code"


class OperationGet(Request):
    """``operation.get``: state and result of an operation by its request id; every service with operations answers it."""

    id: Annotated[str, Field(min_length=1, max_length=128)]


class OperationState(Reply):
    """State of an operation; `result` is its JSON result, `problem` its error, when done."""

    id: str
    state: Literal["running", "done"]
    result: str = ""
    problem: str = ""
