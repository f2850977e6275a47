"""Asking a registry with whatever it wants to know first: the interim body of the interface that pushing is written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from hythe import __version__
from hythe.errors import Unavailable
from hythe_distribution.adapters.registry.bearer import BearerTokens
from hythe_distribution.adapters.registry.connections import Connection, Pool
from hythe_distribution.adapters.registry.exchange import Response
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, connecting
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint, Source, endpoint_of, redirected

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
Capability = Literal["pull", "resolve", "push"]


class Asking:
    """Requests to registries."""

    def __init__(self, pool: Pool, tokens: BearerTokens) -> None:
        self._pool = pool
        self._tokens = tokens

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
    ) -> Response:
        """Ask for a path below the repository."""
        registry = endpoint_of(source)
        whole = dict(headers or {}, Accept=accept)
        target = f"/v2/{source.repository}/{path}"
        return self._ask(step, method, source, registry, target, cancellation, whole, body, body_bytes)

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
    ) -> Response:
        """Ask where a ``Location`` leads to."""
        endpoint, target = redirected(step, origin, "/", location)
        whole = dict(headers or {}, Accept=accept)
        return self._ask(step, method, source, endpoint, target, cancellation, whole, body, body_bytes)

    def _ask(
        self,
        step: str,
        method: str,
        source: Source,
        endpoint: Endpoint,
        target: str,
        cancellation: Cancellation,
        headers: dict[str, str],
        body: bytes | Iterator[bytes] | None,
        body_bytes: int | None,
    ) -> Response:
        registry = endpoint_of(source)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(step, method, source, endpoint, target, cancellation, headers, body, body_bytes)
            if response.status == 401 and endpoint == registry and not isinstance(body, Iterator):
                with response:
                    header = response.header("WWW-Authenticate")
                    response.read_front(MAX_PROBLEM_BYTES)
                self._tokens.renew(step, source, registry, header, cancellation)
                response = self._send(step, method, source, endpoint, target, cancellation, headers, body, body_bytes)
            location = response.header("Location")
            if method not in ("GET", "HEAD") or response.status not in _REDIRECTS or not location:
                return response
            with response:
                response.read_front(MAX_PROBLEM_BYTES)
            endpoint, target = redirected(step, endpoint, target, location)
        raise Unavailable(f"{step}: {registry} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self,
        step: str,
        method: str,
        source: Source,
        endpoint: Endpoint,
        target: str,
        cancellation: Cancellation,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        body_bytes: int | None,
    ) -> Response:
        registry = endpoint_of(source)
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": f"hythe/{__version__}"}
        token = self._tokens.token(registry, source.repository) if endpoint == registry else ""
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if isinstance(body, Iterator):
            sent["Content-Length"] = str(body_bytes)
        elif method in ("POST", "PUT", "PATCH"):
            sent["Content-Length"] = str(len(body or b""))
        with connecting(step, endpoint):
            connection: Connection = self._pool.take(endpoint) or self._pool.new(endpoint, registry)
            forget = cancellation.on_cancel(connection.abort)
            try:
                connection.request(method, target, body, sent)
                raw = connection.getresponse()
                return Response(step, self._pool, connection, raw, is_head=method == "HEAD", on_close=forget)
            except BaseException:
                forget()
                connection.close()
                cancellation.check()
                raise
