"""Asking a registry: which of its servers, with which authorization, how often, and where its redirects may lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hythe import __version__
from hythe.errors import FailedPrecondition, HytheError, Unavailable
from hythe_distribution.adapters.registry.connections import Pool, Route
from hythe_distribution.adapters.registry.exchange import Outgoing, exchange
from hythe_distribution.adapters.registry.logins import Authorization, Logins
from hythe_distribution.adapters.registry.problems import was_unreachable
from hythe_distribution.adapters.registry.repeating import repeat
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.authorizer import Asker, scopes_of
from hythe_distribution.breaker import Breaker
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint, Source, redirected
from hythe_distribution.mirrors import Capability, Entry, Server, servers_of
from hythe_distribution.retry import TRIES

MAX_REDIRECTS = 5

_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = ("GET", "HEAD")


class HostsFiles(Protocol):
    """Where it is said which servers stand in for a registry."""

    def entries(self, host: str) -> tuple[Entry, ...] | None:
        """Return what is said for the registry `host`, or None.

        Raises:
            FailedPrecondition: what is said cannot be understood.
        """


@dataclass(frozen=True, slots=True)
class _Call:
    """A request before it is known which server gets it."""

    step: str
    method: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | Iterator[bytes] | None = field(repr=False)
    repeatable: bool
    retry_statuses: bool
    cancellation: Cancellation = field(repr=False)

    @property
    def sends(self) -> int:
        """How often it may be sent."""
        return TRIES if self.repeatable and not isinstance(self.body, Iterator) else 1


class Asking:
    """What the registry port's body is built on; safe to use from several threads."""

    def __init__(self, pool: Pool, hosts: HostsFiles, logins: Logins, breaker: Breaker) -> None:
        self._pool = pool
        self._hosts = hosts
        self._logins = logins
        self._breaker = breaker

    def ask(
        self,
        step: str,
        method: str,
        source: Source,
        path: str,
        cancellation: Cancellation,
        *,
        accept: str = "*/*",
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        body_bytes: int | None = None,
        capability: Capability = "pull",
        actions: tuple[str, ...] = ("pull",),
        mount_from: str = "",
        repeatable: bool | None = None,
        retry_statuses: bool = True,
    ) -> Response:
        """Ask the registry of `source` for something in its repository, and return the answer, good or not.

        Its servers are asked in order until one has a good answer; those that could not be reached a moment ago are passed
        over, but never the last one. The last one is asked again where that may help. To push, only the first server that
        takes pushes is asked. Redirects of GET and HEAD are followed.

        Args:
            step: what is being done, for error messages.
            path: below ``/v2/<repository>/``, with its query if any.
            headers: further ones; they follow a redirect, so no credentials.
            body: bytes may be sent again; an iterator is sent once.
            body_bytes: length of what an iterator gives.
            actions, mount_from: what the token shall allow, see `scopes_of`.
            repeatable: whether asking twice does no harm; by default for GET and HEAD.
            retry_statuses: whether 408, 429 and 5xx are reasons to ask again, as lost connections are.

        Raises:
            Unavailable: the last server cannot be reached, or redirects without end.
            FailedPrecondition: its certificate is not trusted; or a ``hosts.toml``, a file that it names or the store of
                logins cannot be used.
            Unauthenticated: a login is wanted, and there is none.
            PermissionDenied: it leads where it may not lead.
            ResourceExhausted: it asks to wait for more than 30 s.
            Cancelled: the cancellation came first.
        """
        call = _call(step, method, cancellation, accept, headers, body, body_bytes, repeatable, retry_statuses)
        servers = self._servers(step, source, capability)
        for server in servers[:-1]:
            if self._breaker.allows(server.endpoint):
                asker = _asker(server, source, actions, mount_from)
                response = self._try(call, server, asker, server.target(source.repository, path))
                if response is not None:
                    return response
        last = servers[-1]
        target = last.target(source.repository, path)
        return self._ask_server(call, last, _asker(last, source, actions, mount_from), target, call.sends)

    def ask_at(
        self,
        step: str,
        method: str,
        source: Source,
        origin: Endpoint,
        location: str,
        cancellation: Cancellation,
        *,
        accept: str = "*/*",
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        body_bytes: int | None = None,
        capability: Capability = "pull",
        actions: tuple[str, ...] = ("pull",),
        mount_from: str = "",
        repeatable: bool | None = None,
        retry_statuses: bool = True,
    ) -> Response:
        """Ask where a ``Location`` header leads that the server `origin` gave; like `ask` else.

        Only a server of the registry itself is sent an authorization.

        Raises:
            PermissionDenied, Unavailable: the location is refused, see `redirected`.
            HytheError: as for `ask`.
        """
        call = _call(step, method, cancellation, accept, headers, body, body_bytes, repeatable, retry_statuses)
        endpoint, target = redirected(step, origin, "/", location)
        servers = self._servers(step, source, capability)
        server = next((each for each in servers if each.endpoint == endpoint), None)
        if server is not None:
            return self._ask_server(call, server, _asker(server, source, actions, mount_from), target, call.sends)
        route = _route(next((each for each in servers if each.endpoint == origin), servers[-1]))
        return self._repeat(call, None, None, route.to(endpoint), target, call.sends)

    def ask_stranger(
        self, step: str, route: Route, target: str, cancellation: Cancellation, headers: Mapping[str, str]
    ) -> Response:
        """GET something from a server that has nothing to do with a registry, without any credentials.

        Raises:
            Unavailable, FailedPrecondition, PermissionDenied, ResourceExhausted, Cancelled: as for `ask`.
        """
        call = _call(step, "GET", cancellation, "*/*", headers, None, None, None, True)
        return self._repeat(call, None, None, route, target, call.sends)

    def ask_api(self, step: str, source: Source, authorization: Authorization, cancellation: Cancellation) -> Response:
        """GET the root of the API at the registry's own server, with the `authorization` given and no other.

        Raises:
            Unavailable, FailedPrecondition, PermissionDenied, ResourceExhausted, Cancelled: as for `ask`.
        """
        server = self._own_server(source)
        call = _call(step, "GET", cancellation, "*/*", None, None, None, None, True)
        route, target = _route(server), f"{server.base}/"
        given = {"Authorization": authorization.value} if authorization.value else {}
        headers = _merged(call.headers, dict(server.headers), given)

        def send(resends: int) -> Response:
            return self._send(call, headers, authorization.secrets, route, target, resends)

        return repeat(step, send, cancellation)

    def way_to(self, source: Source) -> tuple[Route, Asker]:
        """Return how the registry's own server is reached, and as whom it asks for a mere login.

        Raises:
            FailedPrecondition: its ``hosts.toml`` cannot be used.
        """
        server = self._own_server(source)
        return _route(server), Asker(server.login, server.endpoint)

    def _own_server(self, source: Source) -> Server:
        server = servers_of(source, self._hosts.entries(source.host))[-1]
        self._pool.check(_route(server))
        return server

    def _servers(self, step: str, source: Source, capability: Capability) -> tuple[Server, ...]:
        able = tuple(
            server
            for server in servers_of(source, self._hosts.entries(source.host))
            if capability in server.capabilities
        )
        if not able:
            raise FailedPrecondition(
                f"{step}: no server of {source.host} may be used to {capability}",
                next_step=f"add {capability} to the capabilities of a server in its hosts.toml",
            )
        able = able[:1] if capability == "push" else able
        for server in able:
            self._pool.check(_route(server))
        return able

    def _try(self, call: _Call, server: Server, asker: Asker, target: str) -> Response | None:
        """Return the good answer of a server that others come after, or None."""
        try:
            response = self._ask_server(call, server, asker, target, 1)
        except HytheError:
            call.cancellation.check()
            return None  # its span tells; the next one is asked
        if response.status < 400:
            return response
        response.drop()
        return None

    def _ask_server(self, call: _Call, server: Server, asker: Asker, target: str, sends: int) -> Response:
        """Ask one server, and once more with the authorization that it wants."""
        route = _route(server)
        response = self._repeat(call, server, asker, route, target, sends)
        own = response.endpoint == server.endpoint and not _has_authorization(server)
        if response.status != 401 or not own:
            return response
        header = response.header("WWW-Authenticate")
        response.drop()
        self._logins.renew(call.step, asker, route, header, call.cancellation)
        if isinstance(call.body, Iterator):
            raise Unavailable(f"{call.step}: the login at {server.endpoint} had run out", next_step="try again")
        return self._repeat(call, server, asker, route, target, sends)

    def _repeat(
        self, call: _Call, server: Server | None, asker: Asker | None, route: Route, target: str, sends: int
    ) -> Response:
        def send(resends: int) -> Response:
            return self._follow(call, server, asker, route, target, resends)

        return repeat(call.step, send, call.cancellation, tries=sends, statuses=call.retry_statuses)

    def _follow(
        self, call: _Call, server: Server | None, asker: Asker | None, route: Route, target: str, resends: int
    ) -> Response:
        """Send one request and follow its redirects; what is meant for `server` goes to its endpoint and nowhere else."""
        first, endpoint = route, route.endpoint
        for _ in range(MAX_REDIRECTS + 1):
            if server is not None and asker is not None and endpoint == server.endpoint:
                authorization = self._logins.authorization(asker)
                headers = {"Authorization": authorization.value} if authorization.value else {}
                headers = _merged(call.headers, headers, dict(server.headers))
                secrets = (*authorization.secrets, *(value for _, value in server.headers))
                response = self._send_watched(call, headers, secrets, first, target, resends)
            else:
                response = self._send(call, call.headers, (), first.to(endpoint), target, resends)
            location = response.header("Location")
            if call.method not in _SAFE or response.status not in _REDIRECTS or not location:
                return response
            response.drop()
            endpoint, target = redirected(call.step, endpoint, target, location)
        raise Unavailable(f"{call.step}: {route.endpoint} redirects more than {MAX_REDIRECTS} times")

    def _send_watched(
        self, call: _Call, headers: Mapping[str, str], secrets: tuple[str, ...], route: Route, target: str, resends: int
    ) -> Response:
        """Send, and note for all pulls whether the server can be reached."""
        try:
            response = self._send(call, headers, secrets, route, target, resends)
        except HytheError as error:
            if was_unreachable(error) and not call.cancellation.cancelled:
                self._breaker.failed(route.endpoint)
            raise
        self._breaker.worked(route.endpoint)
        return response

    def _send(
        self, call: _Call, headers: Mapping[str, str], secrets: tuple[str, ...], route: Route, target: str, resends: int
    ) -> Response:
        request = Outgoing(call.step, call.method, target, headers, call.body, call.repeatable, resends, secrets)
        return exchange(self._pool, route, request, call.cancellation)


def _call(
    step: str,
    method: str,
    cancellation: Cancellation,
    accept: str,
    headers: Mapping[str, str] | None,
    body: bytes | Iterator[bytes] | None,
    body_bytes: int | None,
    repeatable: bool | None,
    retry_statuses: bool,
) -> _Call:
    always = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": f"hythe/{__version__}"}
    if body_bytes is not None:
        always["Content-Length"] = str(body_bytes)
    safe = method in _SAFE if repeatable is None else repeatable
    return _Call(step, method, {**always, **(headers or {})}, body, safe, retry_statuses, cancellation)


def _route(server: Server) -> Route:
    return Route(server.endpoint, "user", server.trust, server.dial_timeout_s)


def _asker(server: Server, source: Source, actions: tuple[str, ...], mount_from: str) -> Asker:
    names = server.name_of(source.repository), server.name_of(mount_from) if mount_from else ""
    return Asker(server.login, server.endpoint, scopes_of(names[0], actions, names[1]))


def _has_authorization(server: Server) -> bool:
    return any(name.lower() == "authorization" for name, _ in server.headers)


def _merged(*headers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers; of two with the same name, in whatever case, the later one counts."""
    merged: dict[str, tuple[str, str]] = {}
    for each in headers:
        merged.update({name.lower(): (name, value) for name, value in each.items()})
    return dict(merged.values())
