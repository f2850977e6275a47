"""What a request's headers and body must be before anything is done for it; a pure check of what others sent."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hythe import clock
from hythe.bus.endpoint import Endpoint
from hythe.errors import DeadlineExceeded, InvalidArgument
from hythe.identifiers import new_id
from hythe.wire.operation import BEGIN_BEFORE_HEADER, REQUEST_ID_HEADER, TIMEOUT_HEADER

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")


def request_id_of(headers: Mapping[str, str], kind: str) -> str:
    """Return the request's id, a fresh one if it has none.

    Raises:
        InvalidArgument: it is longer than 128 characters or has others than visible ASCII.
    """
    value = headers.get(REQUEST_ID_HEADER, "")
    if not value:
        return new_id()
    if not _REQUEST_ID.fullmatch(value):
        raise InvalidArgument(f"{kind}: header {REQUEST_ID_HEADER} is not 1 to 128 visible ASCII characters")
    return value


def timeout_s_of(headers: Mapping[str, str], kind: str) -> float | None:
    """Return how many seconds the caller waits, or None where it doesn't say.

    Raises:
        InvalidArgument: the header is no number of milliseconds.
    """
    value = headers.get(TIMEOUT_HEADER, "")
    return _milliseconds(value, TIMEOUT_HEADER, kind) / 1000 if value else None


def check_begin_before(headers: Mapping[str, str], kind: str) -> None:
    """Refuse a request that comes too late to begin (ARCHITECTURE §3).

    Raises:
        DeadlineExceeded: with outcome "not started".
        InvalidArgument: the header is neither ``<unix ms>`` nor ``<boot id>/<boottime ms>``.
    """
    value = headers.get(BEGIN_BEFORE_HEADER, "")
    if not value:
        return
    boot, slash, moment = value.rpartition("/")
    latest = _milliseconds(moment, BEGIN_BEFORE_HEADER, kind)
    now = clock.boottime_ms() if slash else time.time() * 1000
    if now > latest or (slash and boot != clock.boot_id()):
        raise DeadlineExceeded(
            f"{kind}: the request arrived after the time by which it had to begin", outcome="not started"
        )


def parse(endpoint: Endpoint, data: bytes) -> Any:
    """Return the request in `data`.

    Raises:
        InvalidArgument: it is not what the endpoint takes; the message names the first field that is wrong.
    """
    try:
        return endpoint.request_type.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidArgument(f"read the request {endpoint.kind}: {where}: {first['msg']}") from error


def _milliseconds(value: str, header: str, kind: str) -> int:
    if not _MILLISECONDS.fullmatch(value):
        raise InvalidArgument(f"{kind}: header {header} is {value[:100]!r}")
    return int(value)
