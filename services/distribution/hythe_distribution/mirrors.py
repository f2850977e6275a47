"""Which servers are asked for a registry's content, in which order, and what is said to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hythe.reference import DEFAULT_HOST
from hythe_distribution.hosts import DOCKER_HUB, Endpoint, Source, endpoint_of

Capability = Literal["pull", "resolve", "push"]
ALL_CAPABILITIES: frozenset[Capability] = frozenset(("pull", "resolve", "push"))
API = "/v2"


@dataclass(frozen=True, slots=True)
class Trust:
    """How TLS with one server differs from this host's defaults.

    Attributes:
        authorities: PEM files of further authorities.
        clients: PEM files of certificate and key that we show; the key is empty where it stands in the certificate's file.
        skip_verify: believe any certificate.
        file: what says so, for error messages.
    """

    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()
    skip_verify: bool = False
    file: str = ""

    @property
    def special(self) -> bool:
        """Whether it differs from the defaults at all."""
        return bool(self.authorities or self.clients or self.skip_verify)


SYSTEM_TRUST = Trust()


@dataclass(frozen=True, slots=True)
class Entry:
    """A server as a ``hosts.toml`` describes it.

    Attributes:
        endpoint: None for the registry's own server.
        base: path below which the repositories lie.
        headers: sent with each request to it, and to nobody else; they may be secret.
        dial_timeout_s: seconds; None for the default.
    """

    endpoint: Endpoint | None = None
    base: str = API
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    trust: Trust = SYSTEM_TRUST
    dial_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A server to ask for the content of one registry.

    Attributes:
        login: name of the registry whose login is its own: ``host[:port]``.
        namespace: the registry that it stands in for, told as ``?ns=``; empty for the registry's own server.
    """

    endpoint: Endpoint
    base: str
    login: str
    namespace: str = ""
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    trust: Trust = SYSTEM_TRUST
    dial_timeout_s: float | None = None

    def target(self, repository: str, path: str) -> str:
        """Return the request target of `path` (with its query, if any) in a repository."""
        target = f"{self.base}/{repository}/{path}"
        if not self.namespace:
            return target
        return f"{target}{'&' if '?' in path else '?'}ns={self.namespace}"

    def name_of(self, repository: str) -> str:
        """Return what the server itself calls `repository`: a path below ``/v2`` is part of its name."""
        prefix = self.base.removeprefix(f"{API}/") if self.base.startswith(f"{API}/") else ""
        return f"{prefix}/{repository}" if prefix else repository


def servers_of(source: Source, entries: Sequence[Entry] | None) -> tuple[Server, ...]:
    """Return the servers of a registry in the order in which they are asked; its own comes last.

    Args:
        entries: what its ``hosts.toml`` says; None where it has none.
    """
    return tuple(_server(source, entry) for entry in entries or (Entry(),))


def _server(source: Source, entry: Entry) -> Server:
    own = endpoint_of(source)
    endpoint = entry.endpoint
    if endpoint is None:
        endpoint = endpoint_of(source)
        if entry.trust.special and not source.plain_http and own.scheme == "http":
            # who gives certificates for a registry on loopback means TLS
            endpoint = replace(own, scheme="https", port=443 if own.port == 80 else own.port)
    is_own = entry.endpoint is None or (endpoint.host, endpoint.port) == (own.host, own.port)
    return Server(
        endpoint,
        entry.base,
        source.host if is_own else login_name(endpoint),
        "" if is_own else source.host,
        entry.capabilities,
        entry.headers,
        entry.trust,
        entry.dial_timeout_s,
    )


def login_name(endpoint: Endpoint) -> str:
    """Return the name under which logins for a server are kept: ``host[:port]``, ``docker.io`` for Docker Hub's."""
    if endpoint.host in DOCKER_HUB:
        return DEFAULT_HOST
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    default = 443 if endpoint.scheme == "https" else 80
    return host if endpoint.port == default else f"{host}:{endpoint.port}"
