"""What to do when a registry asks who we are: which token server may be asked, and for what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from hythe.errors import PermissionDenied, Unauthenticated
from hythe_distribution.hosts import Endpoint, Source, endpoint_of_url

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r'\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_ESCAPE = re.compile(r"\\(.)")
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a ``WWW-Authenticate`` header; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A GET to a token server."""

    endpoint: Endpoint
    target: str


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges in a ``WWW-Authenticate`` header, as far as it can be read.

    Spec: RFC 9110, 11.6.1.
    """
    challenges: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _NAME.match(header, _end(_BETWEEN, header, position)):
        position = match.end()
        value = _VALUE.match(header, position)
        if value is None:
            challenges.append((match[0].lower(), {}))
        elif challenges:
            position = value.end()
            quoted, plain = value.groups()
            challenges[-1][1].setdefault(match[0].lower(), plain if quoted is None else _ESCAPE.sub(r"\1", quoted))
        else:
            break
    return tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def token_request(step: str, source: Source, registry: Endpoint, header: str) -> TokenRequest:
    """Return the request for an anonymous token to pull from `source`.

    The scope is ours, not what the registry asks for. The token server must speak HTTPS; a registry that itself speaks
    plain HTTP may have it on its own host.

    Raises:
        Unauthenticated: the registry wants a login, not a token.
        PermissionDenied: the token server breaks the rule.

    Spec: Docker Registry v2 Bearer token specification; GHSA-742w-89gc-8m9c for the rule.
    """
    bearer = next((found for found in parse_challenges(header) if found.scheme == "bearer"), None)
    realm = bearer.parameters.get("realm", "") if bearer else ""
    if bearer is None or not realm:
        raise Unauthenticated(
            f"{step}: {source.host} wants a login",
            cause=header[:200],
            next_step="use an image that may be pulled without one",
        )
    try:
        split = urlsplit(realm)
        endpoint = endpoint_of_url(split)
    except ValueError:
        endpoint = None
    if endpoint is None or split.username is not None or not realm.isascii() or not realm.isprintable() or " " in realm:
        raise PermissionDenied(f"{step}: {source.host} names a token server that is no HTTP URL", cause=realm[:200])
    if endpoint.scheme != "https" and not (registry.scheme == "http" and endpoint.host == registry.host):
        raise PermissionDenied(
            f"{step}: {source.host} names a token server without TLS on another host", cause=str(endpoint)
        )
    asked = {"service": bearer.parameters.get("service", ""), "scope": f"repository:{source.repository}:pull"}
    query = "&".join(filter(None, (split.query, urlencode({k: v for k, v in asked.items() if v}))))
    return TokenRequest(endpoint, f"{split.path or '/'}?{query}")
