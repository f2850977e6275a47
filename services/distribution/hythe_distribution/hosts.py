"""Where a registry is reached: scheme, API host and port of a reference's host, and which redirects are followed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urljoin, urlsplit

from hythe.errors import PermissionDenied, Unavailable
from hythe.reference import DEFAULT_HOST, Reference

Scheme = Literal["http", "https"]

_API_HOSTS = {DEFAULT_HOST: "registry-1.docker.io"}
DOCKER_HUB = frozenset((DEFAULT_HOST, "index.docker.io", "registry-1.docker.io"))
"""All names under which Docker Hub is reached."""
_DEFAULT_PORTS: dict[Scheme, int] = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._~%:-]+")
_TARGET = re.compile(r"/[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Source:
    """A repository to fetch from.

    Attributes:
        host: registry as in the reference, with its port if any.
        repository: path below it.
        plain_http: speak HTTP without TLS; on loopback that is done anyway.
    """

    host: str
    repository: str
    plain_http: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"

    def at(self, version: str) -> str:
        """Return what people write for `version` in it, a tag or digest."""
        return f"{self}@{version}" if ":" in version else f"{self}:{version}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server: credentials for one are never sent to another.

    Attributes:
        host: name or address in lower case, IPv6 without brackets.
    """

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the name or address is this host's own: ``localhost``, 127.0.0.0/8, ::1."""
        return self.host == "localhost" or is_loopback(self.host)


def source_of(reference: Reference, plain_http: bool) -> Source:
    """Return the repository that `reference` names."""
    return Source(reference.host, reference.repository, plain_http)


def endpoint_of(source: Source) -> Endpoint:
    """Return the server of `source`: HTTPS, but plain HTTP where asked for, and on loopback except on port 443.

    ``docker.io`` is served by ``registry-1.docker.io``.
    """
    split = urlsplit(f"//{_API_HOSTS.get(source.host, source.host)}")
    host = (split.hostname or "").lower()
    plain = source.plain_http or (Endpoint("http", host, 80).loopback and split.port != 443)
    scheme: Scheme = "http" if plain else "https"
    return Endpoint(scheme, host, split.port or _DEFAULT_PORTS[scheme])


def redirected(step: str, current: Endpoint, target: str, location: str) -> tuple[Endpoint, str]:
    """Return the server and request target that a ``Location`` header leads to.

    Args:
        step: what is being done, for error messages.
        current: server that redirects.
        target: path and query that were asked for there.
        location: absolute or relative URL.

    Raises:
        PermissionDenied: it leads from HTTPS to plain HTTP, or carries a user name.
        Unavailable: it is no HTTP URL.

    Spec: OCI distribution-spec, "Pulling blobs"; RFC 9110, 10.2.2.
    """
    try:
        split = urlsplit(urljoin(f"{current}{target}", location))
        endpoint = endpoint_of_url(split)
    except ValueError:  # its text has parts of the URL in it
        raise Unavailable(f"{step}: {current} redirects to no URL") from None
    new_target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    if endpoint is None or not _TARGET.fullmatch(new_target):
        # a user name, a path and a query may each be a credential
        shown = f"{split.scheme}://{split.hostname or ''}"[:200]
        raise Unavailable(f"{step}: {current} redirects to no HTTP URL", cause=shown)
    if current.scheme == "https" and endpoint.scheme == "http":
        raise PermissionDenied(f"{step}: {current} redirects to plain HTTP", cause=str(endpoint))
    if split.username is not None:
        raise PermissionDenied(f"{step}: {current} redirects to a URL with a user name", cause=str(endpoint))
    return endpoint, new_target


def endpoint_of_url(split: SplitResult) -> Endpoint | None:
    """Return the server of a URL, or None if it is not HTTP or its host has other characters than hosts have.

    Raises:
        ValueError: its port is no port.
    """
    if not split.hostname or not _HOST.fullmatch(split.hostname):
        return None
    if split.scheme == "http":
        return Endpoint("http", split.hostname, split.port or 80)
    if split.scheme == "https":
        return Endpoint("https", split.hostname, split.port or 443)
    return None


def is_loopback(address: str) -> bool:
    """Tell whether a numeric address is this host's own; a name is not."""
    parsed = _parse_address(address)
    return parsed is not None and parsed.is_loopback


def may_be_led_to(address: str, *, from_loopback: bool) -> bool:
    """Tell whether a stranger (a redirect, a token server) may make us connect to a numeric address.

    Link-local addresses (cloud metadata services), multicast and unspecified ones never; loopback only if the registry
    itself is there.
    """
    parsed = _parse_address(address)
    if parsed is None or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False
    return from_loopback or not parsed.is_loopback


def _parse_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
