"""Logging in to registries: what a registry is called, and keeping a login only if the registry takes it."""

from __future__ import annotations

from dataclasses import dataclass

from hythe import tracing
from hythe.errors import InvalidArgument
from hythe.reference import DEFAULT_HOST, parse_reference
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.credentials import Credentials, CredentialStore
from hythe_distribution.hosts import DOCKER_HUB
from hythe_distribution.registry import Registry
from hythe_distribution.workers import Workers

_ALIASES = DOCKER_HUB | {"registry.hub.docker.com"}


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login that the registry took; `kept_in` is a path, or the name of a credential helper."""

    host: str
    kept_in: str


class Logins:
    """Logs in and out."""

    def __init__(self, registry: Registry, store: CredentialStore, workers: Workers) -> None:
        self._registry = registry
        self._store = store
        self._workers = workers

    async def log_in(self, host: str, username: str, password: str, plain_http: bool) -> LoggedIn:
        """Keep a login if the registry takes it; where it gives an identity token, that is kept and not the password.

        Args:
            host: see `registry_host`.

        Raises:
            InvalidArgument: `host` is no registry, or the user name is empty.
            Unauthenticated: the registry does not take the login.
            FailedPrecondition: it cannot be kept.
            HytheError: see `hythe_distribution.registry.Registry`.
        """
        name = registry_host(host)
        if not username:
            raise InvalidArgument(f"log in to {name}: the user name is empty")
        cancellation = Cancellation()
        with tracing.span("log in", registry__host=name):
            token = await self._workers.run(
                cancellation, self._registry.login, name, plain_http, username, password, cancellation
            )
            credentials = Credentials(username, "" if token else password, token)
            kept_in = await self._workers.run(None, self._store.keep, name, credentials)
            self._registry.forget(name)
        return LoggedIn(name, kept_in)

    async def log_out(self, host: str) -> tuple[str, bool]:
        """Forget the login for a registry, and what it was given for it; return the registry and whether there was one.

        Raises:
            InvalidArgument: `host` is no registry.
            FailedPrecondition: the file or the helper cannot be used.
        """
        name = registry_host(host)
        had = await self._workers.run(None, self._store.forget, name)
        self._registry.forget(name)
        return name, had


def registry_host(text: str) -> str:
    """Return the registry that a user means as it stands in references: ``host[:port]``.

    Scheme and path of a URL are left out. Docker Hub's other names (``https://index.docker.io/v1/``) and the empty text
    are ``docker.io``.

    Raises:
        InvalidArgument: that is no host, or none that a reference could name. What comes before an ``@`` is not told.
    """
    _, scheme_end, rest = text.strip().rpartition("://")
    host = rest.partition("/")[0].lower() if scheme_end or rest else ""
    if "@" in text:
        raise InvalidArgument("log in: a registry is named without a user", next_step="write host[:port]")
    if not host and not text.strip():
        return DEFAULT_HOST
    if host in _ALIASES:
        return DEFAULT_HOST
    try:
        named = parse_reference(f"{host}/name").host
    except InvalidArgument as error:
        raise _no_registry(host) from error
    if named != host:
        raise _no_registry(host)
    return host


def _no_registry(host: str) -> InvalidArgument:
    return InvalidArgument(
        f"log in to {host[:100]!r}: that is no registry",
        next_step="write host[:port] with a dot, a port or localhost, e.g. registry.example:5000",
    )
