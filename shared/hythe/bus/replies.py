"""How an answer looks on the wire: the result or a problem, with the state and error headers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from pydantic import BaseModel

from hythe import tracing
from hythe.bus.connection import MAX_MESSAGE_BYTES, Bus
from hythe.errors import HytheError, Internal, InvalidArgument, ResourceExhausted, Unavailable
from hythe.wire.operation import ERROR_CODE_HEADER, ERROR_HEADER, STATE_HEADER
from hythe.wire.problem import to_problem

log = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """The last message to a request: ``code`` is "ok" or the error's."""

    code: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer_of(result: BaseModel) -> Answer:
    """Return the answer that brings `result`.

    Raises:
        ResourceExhausted: it is larger than a message may be; what was asked for is done.
    """
    data = result.model_dump_json().encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ResourceExhausted(
            f"answer: {len(data)} bytes are more than the limit of {MAX_MESSAGE_BYTES}", outcome="done"
        )
    return Answer("ok", data, {STATE_HEADER: "done"})


def problem_of(error: HytheError, host: str) -> Answer:
    """Return the answer that brings `error`, noting the trace and, where the error doesn't say, this host."""
    error.trace_id = error.trace_id or tracing.trace_id()
    error.host = error.host or host
    error.message, error.cause = error.message[:MAX_TEXT_CHARACTERS], error.cause[:MAX_TEXT_CHARACTERS]
    headers = {STATE_HEADER: "done", ERROR_HEADER: _header_text(error.message), ERROR_CODE_HEADER: str(error.number)}
    return Answer(error.code, to_problem(error).model_dump_json().encode(), headers)


def fault(kind: str, error: Exception, host: str) -> Answer:
    """Return the answer when a handler raised what it should not: the cause in a word, no traceback, outcome unknown."""
    service = kind.partition(".")[0]
    cause = f"{type(error).__name__}: {error}"
    return problem_of(Internal(f"{kind}: a fault of hythe-{service}", cause=cause, outcome="unknown"), host)


def note_refusal(kind: str, error: HytheError, request_id: str) -> None:
    """Log that a request ended with an error; called within its span, so the line has the trace id."""
    log.info("%s: %s: %s", kind, error.code, error.whole, extra={"request_id": request_id})


async def send(bus: Bus, inbox: str, answer: Answer) -> None:
    """Send the last message; a caller that cannot be reached finds the outcome by request id later."""
    try:
        await bus.publish(inbox, answer.data, answer.headers)
    except Unavailable:
        pass
    except InvalidArgument as error:
        log.error("an answer could not be sent", extra={"reply": inbox, "cause": error.message})


def _header_text(text: str) -> str:
    return " ".join(text.split())[:200].encode("ascii", "replace").decode()
