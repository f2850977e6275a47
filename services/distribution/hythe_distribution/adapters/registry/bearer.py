"""Anonymous bearer tokens: fetched when a registry asks, kept until they run out, sent to that registry alone."""

from __future__ import annotations

import json
import threading
import time

from hythe.errors import Unavailable
from hythe_distribution.adapters.registry.connections import Pool
from hythe_distribution.adapters.registry.exchange import exchange
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, refusal
from hythe_distribution.authorizer import token_request
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint, Source

MAX_TOKEN_BYTES = 16 * 1024
DEFAULT_LIFETIME_S = 60.0
MAX_LIFETIME_S = 3600.0
MARGIN_S = 5.0


class BearerTokens:
    """Tokens by registry endpoint and repository; safe to use from several threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._tokens: dict[tuple[Endpoint, str], tuple[str, float]] = {}

    def token(self, registry: Endpoint, repository: str) -> str:
        """Return the token to pull from `repository`, or an empty string when there is none that still holds."""
        with self._lock:
            token, until = self._tokens.get((registry, repository), ("", 0.0))
        return token if time.monotonic() < until else ""

    def renew(self, step: str, source: Source, registry: Endpoint, header: str, cancellation: Cancellation) -> None:
        """Get a new token as a ``WWW-Authenticate`` header asks.

        Raises:
            Unauthenticated, PermissionDenied: see `token_request`, or the token server refuses.
            Unavailable: the token server cannot be reached, or sends no token.

        Spec: Docker Registry v2 Bearer token specification, "Requesting a Token".
        """
        wanted = token_request(step, source, registry, header)
        step = f"{step}: get a token"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        with exchange(
            step, self._pool, registry, wanted.endpoint, "GET", wanted.target, headers, cancellation
        ) as response:
            body = response.read_front(MAX_PROBLEM_BYTES)
            if response.status != 200:
                raise refusal(step, wanted.endpoint, response.status, body, "image")
        token, lifetime_s = _parse(step, wanted.endpoint, body)
        with self._lock:
            self._tokens[registry, source.repository] = (token, time.monotonic() + lifetime_s - MARGIN_S)


def _parse(step: str, endpoint: Endpoint, body: bytes) -> tuple[str, float]:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
        lifetime_s = float(answer.get("expires_in") or DEFAULT_LIFETIME_S)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        token, lifetime_s = None, 0.0
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_BYTES or not token.isascii() or " " in token:
        token = None
    if token is None or not token.isprintable():
        raise Unavailable(f"{step}: {endpoint} sends no token")
    return token, min(max(lifetime_s, DEFAULT_LIFETIME_S), MAX_LIFETIME_S)
