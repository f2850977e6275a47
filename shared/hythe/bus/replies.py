"""How an answer looks on the wire: the result or a problem, with the state and error headers."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from hythe import tracing
from hythe.bus.connection import Bus
from hythe.errors import HytheError, Unavailable
from hythe.wire.operation import ERROR_CODE_HEADER, ERROR_HEADER, STATE_HEADER
from hythe.wire.problem import to_problem


@dataclass(frozen=True, slots=True)
class Answer:
    """The last message to a request: ``code`` is "ok" or the error's."""

    code: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer_of(result: BaseModel) -> Answer:
    """Return the answer that brings `result`."""
    return Answer("ok", result.model_dump_json().encode(), {STATE_HEADER: "done"})


def problem_of(error: HytheError, host: str) -> Answer:
    """Return the answer that brings `error`, noting the trace and, where the error doesn't say, this host."""
    error.trace_id = error.trace_id or tracing.trace_id()
    error.host = error.host or host
    headers = {STATE_HEADER: "done", ERROR_HEADER: _header_text(error.message), ERROR_CODE_HEADER: str(error.number)}
    return Answer(error.code, to_problem(error).model_dump_json().encode(), headers)


async def send(bus: Bus, inbox: str, answer: Answer) -> None:
    """Send the last message; a caller that cannot be reached finds the outcome by request id later."""
    try:
        await bus.publish(inbox, answer.data, answer.headers)
    except Unavailable:
        pass


def _header_text(text: str) -> str:
    return " ".join(text.split())[:200].encode("ascii", "replace").decode()
