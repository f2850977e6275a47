"""What to do when a registry asks who we are: which token server may be asked for what, and sent which login."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from hythe.errors import InvalidArgument, PermissionDenied, Unauthenticated
from hythe_distribution.credentials import Credentials, basic_authorization, without_secrets
from hythe_distribution.hosts import Endpoint, endpoint_of_url

CLIENT_ID = "hythe"

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r'\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_ESCAPE = re.compile(r"\\(.)")
_BETWEEN = re.compile(r"[\s,]*")
_LABEL = re.compile(r"[a-z0-9-]+")
# below these, everybody can have a domain, as in co.uk and com.au
_SHARED = frozenset(("ac", "co", "com", "edu", "go", "gov", "mil", "ne", "net", "or", "org"))

TokenServers = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a ``WWW-Authenticate`` header; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who is asked for a login, and for what.

    Attributes:
        name: registry as logins are kept by: ``host[:port]``.
        endpoint: server that asks.
        scopes: what shall be allowed, e.g. ``repository:team/app:pull``; empty for a mere login.
    """

    name: str
    endpoint: Endpoint
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A question to a token server.

    Attributes:
        target: path and query.
        authorization: value of its ``Authorization`` header; empty for none.
        form: body of a POST that sends a refresh token; empty for a GET.
        fallback: what to ask where the token server knows no POST.
    """

    endpoint: Endpoint
    target: str
    authorization: str = field(default="", repr=False)
    form: str = field(default="", repr=False)
    fallback: TokenRequest | None = None

    @property
    def method(self) -> Literal["GET", "POST"]:
        """How it is sent."""
        return "POST" if self.form else "GET"


def scopes_of(repository: str, actions: Sequence[str], mount_from: str = "") -> tuple[str, ...]:
    """Return the scopes for `actions` on a repository, and for reading the one that blobs are mounted from.

    Spec: Docker Registry v2 Token Scope.
    """
    own = f"repository:{repository}:{','.join(actions)}"
    return (own, f"repository:{mount_from}:pull") if mount_from else (own,)


def parse_token_servers(text: str) -> TokenServers:
    """Return the hosts that each registry's login may be sent to besides its own, from ``REGISTRY=HOST,…``.

    Raises:
        InvalidArgument: a part is not of that form.
    """
    servers: dict[str, frozenset[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        registry, equals, host = part.partition("=")
        if not equals or not registry or not host or "/" in part or " " in part:
            raise InvalidArgument(
                f"check setting token_servers: {part[:100]!r} is not REGISTRY=HOST",
                next_step="write for example registry.example=auth.example.net",
            )
        servers[registry.lower()] = servers.get(registry.lower(), frozenset()) | {host.lower()}
    return servers


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


def answer_to(
    step: str,
    asker: Asker,
    header: str,
    credentials: Credentials | None,
    token_servers: TokenServers,
    *,
    keep_token: bool = False,
) -> TokenRequest | str:
    """Return how a ``WWW-Authenticate`` header is answered: by asking for a token, or by the value of ``Authorization``.

    The scopes are ours, not what the registry asks for. A token server must speak HTTPS; a registry that itself speaks
    plain HTTP may have it on its own host. A login is sent to a token server only on the registry's own host, over HTTPS
    below the same parent domain, or where `token_servers` allows it.

    Args:
        credentials: the login for this registry, if there is one.
        keep_token: ask for a refresh token as well.

    Raises:
        Unauthenticated: the registry wants a login, and there is none that it could be sent.
        PermissionDenied: the token server breaks the rules.

    Spec: Docker Registry v2 Bearer token specification and OAuth2 token specification; GHSA-742w-89gc-8m9c for the rules.
    """
    challenges = parse_challenges(header)
    bearer = next((c for c in challenges if c.scheme == "bearer" and c.parameters.get("realm")), None)
    if bearer is not None:
        return _token_request(step, asker, bearer.parameters, credentials, token_servers, keep_token)
    if credentials is not None and any(challenge.scheme == "basic" for challenge in challenges):
        return basic_authorization(credentials.username, credentials.password or credentials.identity_token)
    secrets = credentials.secrets if credentials else ()
    raise Unauthenticated(
        f"{step}: {asker.name} wants a login",
        cause=without_secrets(header.encode(), secrets).decode()[:200],
        next_step=f"log in: hythe login {asker.name}",
    )


def _token_request(
    step: str,
    asker: Asker,
    parameters: Mapping[str, str],
    credentials: Credentials | None,
    token_servers: TokenServers,
    keep_token: bool,
) -> TokenRequest:
    endpoint, path, query = _realm(step, asker, parameters["realm"])
    asked = [("service", parameters.get("service", "")), *(("scope", scope) for scope in asker.scopes)]
    login = ""
    if credentials is not None:
        _require_right_to_login(step, asker, endpoint, token_servers)
        login = basic_authorization(credentials.username, credentials.password or credentials.identity_token)
        if keep_token:
            asked += [("offline_token", "true"), ("client_id", CLIENT_ID), ("account", credentials.username)]
    encoded = urlencode([(key, value) for key, value in asked if value])
    whole = "&".join(filter(None, (query, encoded)))
    request = TokenRequest(endpoint, path + (f"?{whole}" if whole else ""), login)
    if credentials is None or not credentials.identity_token:
        return request
    form = {
        "grant_type": "refresh_token",
        "service": parameters.get("service", ""),
        "client_id": CLIENT_ID,
        "scope": " ".join(asker.scopes),
        "refresh_token": credentials.identity_token,
    }
    return TokenRequest(endpoint, path + (f"?{query}" if query else ""), form=urlencode(form), fallback=request)


def _realm(step: str, asker: Asker, realm: str) -> tuple[Endpoint, str, str]:
    try:
        split = urlsplit(realm)
        endpoint = endpoint_of_url(split)
    except ValueError:
        endpoint = None
    if endpoint is None or split.username is not None or not realm.isascii() or not realm.isprintable() or " " in realm:
        shown = quote(realm.partition("?")[0].rpartition("@")[2][:200], safe="/:?=&[]")
        raise PermissionDenied(f"{step}: {asker.name} names a token server that is no HTTP URL", cause=shown)
    registry = asker.endpoint
    if endpoint.scheme != "https" and not (registry.scheme == "http" and endpoint.host == registry.host):
        raise PermissionDenied(
            f"{step}: {asker.name} names a token server without TLS on another host", cause=str(endpoint)
        )
    return endpoint, split.path or "/", split.query


def _require_right_to_login(step: str, asker: Asker, realm: Endpoint, token_servers: TokenServers) -> None:
    registry = asker.endpoint
    if realm.host == registry.host:
        return  # that its TLS is not taken away was checked
    denied = f"{step}: the login for {asker.name} is not sent to its token server {realm}"
    if registry.scheme != "https":
        raise PermissionDenied(
            denied,
            cause="a registry without TLS may have its token server on its own host only",
            next_step="reach the registry over TLS, or log out: hythe logout " + asker.name,
        )
    allowed = token_servers.get(asker.name.lower(), frozenset())
    if _parent(realm.host) == _parent(registry.host) != "" or {realm.host, f"{realm.host}:{realm.port}"} & allowed:
        return
    raise PermissionDenied(
        denied,
        cause="it is outside the registry's own domain",
        next_step=f"if it is right, set HYTHE_TOKEN_SERVERS={asker.name}={realm.host} for the distribution service",
    )


def _parent(host: str) -> str:
    """Return the domain that a host shares with those of one owner: its last two labels; empty if it has none."""
    labels = host.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return ""
    shared = len(labels[-1]) == 2 and labels[-2] in _SHARED
    if shared and len(labels) < 3:
        return ""
    return ".".join(labels[-3:] if shared else labels[-2:])
