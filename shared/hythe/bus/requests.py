"""How a request looks on the wire, and what its answer and its subject say."""

from __future__ import annotations

import time
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hythe import subjects, tracing
from hythe.bus import asker_headers
from hythe.bus.message import Message
from hythe.errors import DataLoss, InvalidArgument
from hythe.subjects import HostSubject
from hythe.wire.base import read_reply
from hythe.wire.operation import BEGIN_BEFORE_HEADER, ERROR_HEADER, REQUEST_ID_HEADER, TIMEOUT_HEADER
from hythe.wire.problem import from_problem

ReplyT = TypeVar("ReplyT", bound=BaseModel)

NATS_SERVER = "nats-server"


def headers_of(request_id: str, timeout_s: float, begin_before: str | None) -> dict[str, str]:
    """Return the headers of a request; by default it may begin as long as its caller waits, by this machine's clock."""
    headers = {
        REQUEST_ID_HEADER: request_id,
        TIMEOUT_HEADER: str(int(timeout_s * 1000)),
        BEGIN_BEFORE_HEADER: begin_before or str(int((time.time() + timeout_s) * 1000)),
    }
    tracing.inject(headers)
    asker_headers.inject(headers)
    return headers


def decode(message: Message, model: type[ReplyT], kind: str) -> ReplyT:
    """Return the answer that `message` brings to a request of `kind`.

    Raises:
        HytheError: the error that it brings.
        DataLoss: it is not understood.
    """
    if ERROR_HEADER in message.headers:
        raise from_problem(message.data)
    try:
        return read_reply(model, message.data)
    except ValidationError as error:
        raise DataLoss(f"read the answer of {kind}: not understood", cause=str(error), outcome="unknown") from error


def _parts(subject: str) -> subjects.RpcSubject | HostSubject | None:
    try:
        return subjects.parse_rpc(subject)
    except InvalidArgument:
        return None


def kind_of(subject: str) -> str:
    """Return ``service.noun.verb`` of a request's subject; any other subject as it is."""
    parts = _parts(subject)
    return f"{parts.service}.{parts.noun}.{parts.verb}" if parts else subject


def service_of(subject: str) -> str:
    """Return the service that a subject addresses."""
    parts = _parts(subject)
    return parts.service if parts else NATS_SERVER


def host_of(subject: str) -> str:
    """Return the host that a request's subject names, or an empty string."""
    parts = _parts(subject)
    return parts.host if isinstance(parts, HostSubject) else ""
