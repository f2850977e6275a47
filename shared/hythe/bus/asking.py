"""Who asked first: goes along with each request from service to service, so that an event names the user who asked."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hythe.bus.permissions import SERVICES
from hythe.errors import InvalidArgument
from hythe.identifiers import decode_token, encode_token

CALLER_HEADER = "hythe-asked-by"
REQUEST_HEADER = "hythe-asked-request"
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Asker:
    """The key that asked first, empty where nobody did or nobody knows, and its request."""

    caller: str = ""
    request_id: str = ""


NOBODY = Asker()
current: contextvars.ContextVar[Asker] = contextvars.ContextVar("asker", default=NOBODY)
"""For whom this task works."""


def inject(headers: dict[str, str]) -> None:
    """Add to the headers of a request for whom it is made."""
    asker = current.get()
    if asker.caller:
        headers[CALLER_HEADER] = encode_token(asker.caller)
        headers[REQUEST_HEADER] = asker.request_id


def asker_of(headers: Mapping[str, str], caller: str, request_id: str) -> Asker:
    """Return who asked first.

    Only services are believed when they speak for somebody else; on host subjects, which name no caller, only they ask.

    Args:
        caller, request_id: of the request itself; no caller on a host subject.
    """
    if caller and caller not in SERVICES:
        return Asker(caller, request_id)
    named, request = headers.get(CALLER_HEADER, ""), headers.get(REQUEST_HEADER, "")
    try:
        first = decode_token(named) if named else ""
    except InvalidArgument:
        first = ""
    if not first or not _REQUEST_ID.fullmatch(request):
        return Asker(caller, request_id)
    return Asker(first, request)
