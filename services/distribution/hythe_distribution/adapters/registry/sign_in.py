"""Logging in: whether a registry takes a login, and whether it gives a refresh token in its place."""

from __future__ import annotations

from hythe.errors import InvalidArgument, Unauthenticated, Unavailable
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.logins import NONE, Logins
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, refusal, registry_text
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Source


def sign_in(
    asking: Asking, logins: Logins, source: Source, credentials: Credentials, cancellation: Cancellation
) -> str:
    """Return if a registry takes `credentials`; gives a refresh token to keep in their place, or nothing.

    A registry that wants no login at all takes each.

    Raises:
        InvalidArgument: the user name has a colon, or there is none.
        Unauthenticated: the registry does not take them.
        HytheError: see `Asking.ask_api` and `Logins.sign_in`.

    Spec: OCI distribution-spec, "Determining Support"; Docker Registry v2 Bearer token specification, ``offline_token``.
    """
    step = f"log in to {source.host}"
    name = credentials.username
    if not name or ":" in name or not name.isprintable() or not credentials.password:
        raise InvalidArgument(f"{step}: a login has a user name, without a colon in it, and a password")
    route, asker = asking.way_to(source)
    with asking.ask_api(step, source, NONE, cancellation) as response:
        header, body = response.header("WWW-Authenticate"), response.read_front(MAX_PROBLEM_BYTES)
    if response.status == 200:
        return ""
    if response.status == 404:
        raise Unavailable(f"{step}: {response.endpoint} is no registry", next_step="check its name")
    if response.status != 401:
        raise refusal(step, response.endpoint, response.status, body, "image")
    authorization, refresh = logins.sign_in(step, asker, route, header, credentials, cancellation)
    with asking.ask_api(step, source, authorization, cancellation) as response:
        body = response.read_front(MAX_PROBLEM_BYTES)
    if response.status == 401:
        raise Unauthenticated(
            f"{step}: {response.endpoint} does not take this login",
            cause=registry_text(body) or "HTTP 401 Unauthorized",
            next_step="check user name and password",
        )
    if response.status != 200:
        raise refusal(step, response.endpoint, response.status, body, "image")
    return refresh
