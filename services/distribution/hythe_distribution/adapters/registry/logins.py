"""What is sent as ``Authorization``: logins and tokens, each kept for its server alone until it runs out."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field

from hythe import tracing
from hythe.errors import HytheError, Unauthenticated, Unavailable
from hythe_distribution.adapters.registry.connections import Pool, Route
from hythe_distribution.adapters.registry.exchange import Outgoing, exchange
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, refusal, registry_text
from hythe_distribution.adapters.registry.repeating import repeat
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.authorizer import Asker, TokenRequest, TokenServers, answer_to
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.credentials import Credentials, CredentialStore
from hythe_distribution.hosts import Endpoint

MAX_TOKEN_BYTES = 16 * 1024
DEFAULT_LIFETIME_S = 60.0
MAX_LIFETIME_S = 3600.0
MARGIN_S = 5.0
MAX_KEPT = 1000

_NO_POST = (404, 405)


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of an ``Authorization`` header.

    Attributes:
        secrets: what of it, and of what it was made from, no message may show.
    """

    value: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    until: float = field(default=0.0, compare=False)


NONE = Authorization("")


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    lifetime_s: float
    refresh: str = field(repr=False)


class Logins:
    """Authorizations by server and scopes; safe to use from several threads."""

    def __init__(self, pool: Pool, store: CredentialStore | None, token_servers: TokenServers) -> None:
        self._pool = pool
        self._store = store
        self._token_servers = token_servers
        self._lock = threading.Lock()
        self._kept: dict[tuple[Endpoint, frozenset[str]], tuple[str, Authorization]] = {}

    def authorization(self, asker: Asker) -> Authorization:
        """Return what is known to be wanted and still holds, or `NONE`."""
        with self._lock:
            _, found = self._kept.get(_key(asker), ("", NONE))
        return found if time.monotonic() < found.until else NONE

    def renew(self, step: str, asker: Asker, route: Route, header: str, cancellation: Cancellation) -> None:
        """Get what a ``WWW-Authenticate`` header asks for, with the login that is kept for the registry, if there is one.

        Raises:
            Unauthenticated, PermissionDenied: see `answer_to`, or the token server refuses.
            Unavailable: the token server cannot be reached, or sends no token.
            FailedPrecondition: the store of logins cannot be used.
        """
        credentials = self._store.find(asker.name) if self._store else None
        answer = answer_to(step, asker, header, credentials, self._token_servers)
        self._keep(asker, *self._obtain(step, asker, route, answer, credentials, cancellation)[:2])

    def sign_in(
        self,
        step: str,
        asker: Asker,
        route: Route,
        header: str,
        credentials: Credentials,
        cancellation: Cancellation,
    ) -> tuple[Authorization, str]:
        """Return what `credentials` are worth as an answer to a ``WWW-Authenticate`` header, and a refresh token or nothing.

        Nothing of it is kept.

        Raises:
            Unauthenticated: they are worth nothing.
            PermissionDenied, Unavailable: as for `renew`.
        """
        answer = answer_to(step, asker, header, credentials, self._token_servers, keep_token=True)
        authorization, _, refresh = self._obtain(step, asker, route, answer, credentials, cancellation)
        return authorization, refresh

    def forget(self, name: str) -> None:
        """Drop what is kept for the registry of that name; its login is looked up anew."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if kept[0] != name}

    def _obtain(
        self,
        step: str,
        asker: Asker,
        route: Route,
        answer: TokenRequest | str,
        credentials: Credentials | None,
        cancellation: Cancellation,
    ) -> tuple[Authorization, float, str]:
        secrets = credentials.secrets if credentials else ()
        if isinstance(answer, str):
            return Authorization(answer, secrets), DEFAULT_LIFETIME_S, ""
        token = self._token(f"{step}: get a token", asker, route, answer, secrets, cancellation)
        return (
            Authorization(f"Bearer {token.value}", (*secrets, token.value)),
            token.lifetime_s - MARGIN_S,
            token.refresh,
        )

    def _keep(self, asker: Asker, authorization: Authorization, lifetime_s: float) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._kept) >= MAX_KEPT:
                self._kept = {key: kept for key, kept in self._kept.items() if kept[1].until > now}
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            until = Authorization(authorization.value, authorization.secrets, now + lifetime_s)
            self._kept[_key(asker)] = (asker.name, until)

    def _token(
        self,
        step: str,
        asker: Asker,
        route: Route,
        wanted: TokenRequest,
        secrets: tuple[str, ...],
        cancellation: Cancellation,
    ) -> _Token:
        with tracing.span("token", registry__host=asker.name, server__address=wanted.endpoint.host):
            while True:
                with self._ask(step, route.to(wanted.endpoint), wanted, secrets, cancellation) as response:
                    body = response.read_front(MAX_PROBLEM_BYTES)
                if response.status not in _NO_POST or wanted.fallback is None:
                    break
                wanted = wanted.fallback
            if response.status != 200:
                raise _refused(step, asker, wanted, response, body)
            return _parse(step, wanted.endpoint, body)

    def _ask(
        self, step: str, route: Route, wanted: TokenRequest, secrets: tuple[str, ...], cancellation: Cancellation
    ) -> Response:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if wanted.authorization:
            headers["Authorization"] = wanted.authorization
        if wanted.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = wanted.form.encode() if wanted.form else None

        def send(resends: int) -> Response:
            request = Outgoing(step, wanted.method, wanted.target, headers, body, resends=resends, secrets=secrets)
            return exchange(self._pool, route, request, cancellation)

        return repeat(step, send, cancellation)


def _key(asker: Asker) -> tuple[Endpoint, frozenset[str]]:
    return asker.endpoint, frozenset(asker.scopes)


def _refused(step: str, asker: Asker, wanted: TokenRequest, response: Response, body: bytes) -> HytheError:
    with_login = bool(wanted.authorization or wanted.form)
    if with_login and response.status in (400, 401, 403):
        return Unauthenticated(
            f"{step}: {wanted.endpoint} does not take the login for {asker.name}",
            cause=registry_text(body) or f"HTTP {response.status}",
            next_step=f"log in again: hythe login {asker.name}",
        )
    return refusal(step, wanted.endpoint, response.status, body, "image")


def _parse(step: str, endpoint: Endpoint, body: bytes) -> _Token:
    try:
        answer = json.loads(body)
        token = _checked(answer.get("token") or answer.get("access_token"))
        refresh = _checked(answer.get("refresh_token"))
        lifetime_s = float(answer.get("expires_in") or DEFAULT_LIFETIME_S)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        token = refresh = ""
        lifetime_s = 0.0
    if not token:
        raise Unavailable(f"{step}: {endpoint} sends no token")
    return _Token(token, min(max(lifetime_s, DEFAULT_LIFETIME_S), MAX_LIFETIME_S), refresh)


def _checked(token: object) -> str:
    """Return a token that may stand in a header, or an empty string."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or " " in token:
        return ""
    return token if token.isascii() and token.isprintable() else ""
