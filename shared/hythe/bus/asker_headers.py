"""Who asked first, as the headers of requests from service to service carry it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hythe.asking import Asker, current
from hythe.bus.permissions import SERVICES
from hythe.errors import InvalidArgument
from hythe.identifiers import decode_token, encode_token

CALLER_HEADER = "hythe-asked-by"
REQUEST_HEADER = "hythe-asked-request"
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


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
