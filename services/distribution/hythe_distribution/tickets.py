"""Tickets: signed leave to make one HTTP request to this process, minted and checked by it alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hythe.errors import PermissionDenied

LIFETIME_S = 30.0
_NONCE_BYTES = 12
_SIGNATURE_BYTES = 32
_MAX_TICKET_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class Grant:
    """What a ticket allows.

    Attributes:
        method: HTTP method.
        resource: path of the request below the server's root, e.g. ``blobs/sha256:…``.
        repeatable: good for any number of requests while it holds; else for the first alone.
    """

    method: str
    resource: str
    repeatable: bool = False


class Tickets:
    """Mints and checks tickets with a key made at the start; safe for several threads.

    A ticket is no use after its lifetime, in another process, for another method or another path. It counts for the
    start of a request: a long body may go on after it has run out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = os.urandom(32)
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[bytes, float] = {}

    def mint(self, grant: Grant, lifetime_s: float = LIFETIME_S) -> str:
        """Return a ticket as URL-safe text."""
        until_ms = int((self._clock() + lifetime_s) * 1000)
        terms = f"{until_ms} {int(grant.repeatable)} {grant.method} {grant.resource}".encode()
        payload = os.urandom(_NONCE_BYTES) + terms
        return base64.urlsafe_b64encode(self._sign(payload) + payload).decode().rstrip("=")

    def check(self, ticket: str, method: str, resource: str) -> Grant:
        """Return what `ticket` allows if that is this request; uses it up unless it is repeatable.

        Raises:
            PermissionDenied: it is forged, from another process, run out, used, or for something else.
        """
        nonce, until_s, grant = self._read(ticket)
        if (grant.method, grant.resource) != (method, resource):
            raise _refused("it is for something else")
        now_s = self._clock()
        if now_s > until_s:
            raise _refused("it has run out")
        if not grant.repeatable:
            with self._lock:
                self._used = {used: until for used, until in self._used.items() if until >= now_s}
                if nonce in self._used:
                    raise _refused("it was used before")
                self._used[nonce] = until_s
        return grant

    def _read(self, ticket: str) -> tuple[bytes, float, Grant]:
        try:
            if len(ticket) > _MAX_TICKET_CHARACTERS:
                raise ValueError(ticket)
            raw = base64.b64decode(ticket + "=" * (-len(ticket) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise _refused("it is no ticket") from None
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(payload)):
            raise _refused("this process did not sign it")
        until_ms, repeatable, method, resource = payload[_NONCE_BYTES:].decode().split(" ", 3)
        return payload[:_NONCE_BYTES], int(until_ms) / 1000, Grant(method, resource, repeatable == "1")

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, hashlib.sha256)


def _refused(cause: str) -> PermissionDenied:
    return PermissionDenied(
        "check ticket: it allows nothing", cause=cause, next_step="ask the distribution service for a new one"
    )
