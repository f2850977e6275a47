"""What a registry's question for credentials is answered with."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import InvalidArgument, PermissionDenied, Unauthenticated
from hythe_distribution.authorizer import (
    Asker,
    TokenRequest,
    answer_to,
    parse_challenges,
    parse_token_servers,
    scopes_of,
)
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Endpoint

SECURE = Asker("registry.example", Endpoint("https", "registry.example", 443), ("repository:team/app:pull",))
PLAIN = Asker("127.0.0.1:5000", Endpoint("http", "127.0.0.1", 5000), ("repository:app:pull",))
LOGIN = Credentials("ann", "pass:word")
TOKEN = Credentials("ann", "", "refresh-me")


def asker(host: str, scheme: str = "https") -> Asker:
    """Return a registry on its own host name."""
    return Asker(host, Endpoint("https" if scheme == "https" else "http", host, 443), ("repository:app:pull",))


def ask(
    who: Asker, header: str, login: Credentials | None = None, servers: str = "", *, keep_token: bool = False
) -> TokenRequest:
    """Return the token request that is the answer."""
    found = answer_to("resolve", who, header, login, parse_token_servers(servers), keep_token=keep_token)
    assert isinstance(found, TokenRequest)
    return found


def test_challenge_of_docker_hub_is_read() -> None:
    """The usual header gives scheme and parameters."""
    (found,) = parse_challenges(
        'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push"'
    )
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://auth.example/token",
        "service": "registry.example",
        "scope": "repository:a:pull,push",
    }


def test_several_challenges_are_kept_apart() -> None:
    """Each challenge has its own parameters, in whatever case, quoted or not."""
    basic, negotiate, bearer = parse_challenges(
        'BASIC Realm="a \\"b\\"", Negotiate, bearer realm=https://x/y , service=s'
    )
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": 'a "b"'})
    assert (negotiate.scheme, negotiate.parameters) == ("negotiate", {})
    assert (bearer.scheme, bearer.parameters) == ("bearer", {"realm": "https://x/y", "service": "s"})


@given(st.text(max_size=80))
def test_any_header_is_read_without_failing(header: str) -> None:
    """Garbage gives challenges or none, never a failure."""
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


def test_token_is_asked_for_pulling_this_repository_alone() -> None:
    """The scope is ours, whatever the registry asks for."""
    header = 'Bearer realm="https://auth.example/token?account=x",service="r s",scope="repository:other:push"'
    found = ask(SECURE, header)
    assert (str(found.endpoint), found.method, found.authorization) == ("https://auth.example:443", "GET", "")
    assert found.target == "/token?account=x&service=r+s&scope=repository%3Ateam%2Fapp%3Apull"


def test_mounting_asks_for_the_other_repository_too() -> None:
    """A push that mounts may read where it mounts from, and write only to its own repository."""
    scopes = scopes_of("team/app", ("pull", "push"), "team/base")
    assert scopes == ("repository:team/app:pull,push", "repository:team/base:pull")
    found = ask(Asker("r.example", SECURE.endpoint, scopes), 'Bearer realm="https://registry.example/token"')
    assert parse_qs(urlsplit(found.target).query)["scope"] == list(scopes)


def test_password_is_sent_to_the_token_server_as_basic() -> None:
    """A user name and password become basic authorization; a colon in the password stays."""
    found = ask(SECURE, 'Bearer realm="https://registry.example/token"', LOGIN)
    assert base64.b64decode(found.authorization.removeprefix("Basic ")) == b"ann:pass:word"
    assert found.form == ""


def test_refresh_token_is_sent_in_the_body_of_a_post() -> None:
    """A refresh token goes into a form, never into a URL; a GET stands by for servers that know no POST."""
    found = ask(SECURE, 'Bearer realm="https://registry.example/token",service="s"', TOKEN)
    assert (found.method, found.target, found.authorization) == ("POST", "/token", "")
    assert dict(parse_qsl(found.form)) == {
        "grant_type": "refresh_token",
        "service": "s",
        "client_id": "hythe",
        "scope": "repository:team/app:pull",
        "refresh_token": "refresh-me",
    }
    assert found.fallback is not None
    assert (found.fallback.method, "refresh-me" in found.fallback.target) == ("GET", False)


def test_login_may_ask_for_a_refresh_token() -> None:
    """Logging in asks for a token that can be kept in the place of the password."""
    found = ask(SECURE, 'Bearer realm="https://registry.example/token"', LOGIN, keep_token=True)
    query = parse_qs(urlsplit(found.target).query)
    assert (query["offline_token"], query["client_id"], query["account"]) == (["true"], ["hythe"], ["ann"])


def test_registry_that_wants_basic_gets_the_login_itself() -> None:
    """Where there is no token server, the login goes to the registry."""
    found = answer_to("resolve", SECURE, 'Basic realm="x"', LOGIN, {})
    assert found == "Basic " + base64.b64encode(b"ann:pass:word").decode()


@pytest.mark.parametrize("header", ["", 'Basic realm="x"', "Bearer", 'Bearer service="s"', "nonsense"])
def test_registry_that_wants_a_login_is_unauthenticated(header: str) -> None:
    """Where no anonymous token can be had, the user is told how to log in."""
    with pytest.raises(Unauthenticated) as raised:
        answer_to("resolve", SECURE, header, None, {})
    assert raised.value.next_step == "log in: hythe login registry.example"


def test_login_that_a_registry_repeats_is_not_shown() -> None:
    """A registry that says the password back does not get it into an error."""
    with pytest.raises(Unauthenticated) as raised:
        answer_to("resolve", SECURE, 'Digest realm="pass:word"', LOGIN, {})
    assert "pass:word" not in raised.value.whole


@pytest.mark.parametrize(
    ("who", "realm"),
    [
        (SECURE, "http://auth.example/token"),
        (SECURE, "http://registry.example/token"),
        (SECURE, "ftp://auth.example/token"),
        (SECURE, "https://user@auth.example/token"),
        (SECURE, "https://auth.example/a b"),
        (SECURE, "https://auth.example:x/token"),
        (SECURE, "/token"),
        (PLAIN, "http://10.0.0.1/token"),
    ],
)
@pytest.mark.parametrize("login", [None, LOGIN, TOKEN])
def test_token_server_that_breaks_the_rule_is_refused(who: Asker, realm: str, login: Credentials | None) -> None:
    """No token server without TLS on another host is asked, whoever names it, with a login or without."""
    with pytest.raises(PermissionDenied) as raised:
        ask(who, f'Bearer realm="{realm}"', login)
    assert "user@" not in raised.value.whole


@pytest.mark.parametrize("realm", ["http://127.0.0.1:5001/token", "https://auth.example/token"])
def test_plain_registry_may_have_its_token_server_beside_it(realm: str) -> None:
    """On its own host a registry without TLS may have a token server without TLS."""
    assert ask(PLAIN, f'Bearer realm="{realm}"').target.startswith("/token?")


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.example", "registry.example", True),
        ("ghcr.io", "ghcr.io", True),
        ("registry.example", "auth.example", False),
        ("a.registry.example.com", "auth.example.com", True),
        ("registry.example.com", "auth.example.net", False),
        ("registry.one.co.uk", "auth.two.co.uk", False),
        ("registry.one.co.uk", "auth.one.co.uk", True),
        ("registry.one.com.au", "evil.com.au", False),
        ("one.co.uk", "co.uk", False),
        ("10.1.2.3", "9.9.2.3", False),
        ("localhost", "otherhost", False),
        ("example.com", "notexample.com", False),
    ],
)
@pytest.mark.parametrize("login", [LOGIN, TOKEN])
def test_login_is_sent_only_within_the_registrys_own_domain(
    registry: str, realm: str, allowed: bool, login: Credentials
) -> None:
    """A registry that was taken over cannot name a token server elsewhere and get the login sent there."""
    who, header = asker(registry), f'Bearer realm="https://{realm}/token"'
    if allowed:
        assert ask(who, header, login).endpoint.host == realm
    else:
        with pytest.raises(PermissionDenied) as raised:
            ask(who, header, login)
        assert realm in raised.value.message
        assert f"HYTHE_TOKEN_SERVERS={registry}={realm}" in raised.value.next_step
        assert ask(who, header).endpoint.host == realm  # without a login, it is asked


def test_login_is_sent_where_the_user_says() -> None:
    """A token server elsewhere gets the login if the setting names it for this registry, and for no other."""
    header = 'Bearer realm="https://auth.example.net/token"'
    servers = "other.example=x.example, REGISTRY.example=auth.example.net"
    assert ask(SECURE, header, LOGIN, servers).endpoint.host == "auth.example.net"
    with pytest.raises(PermissionDenied):
        ask(asker("other.example"), header, LOGIN, servers)


def test_registry_without_tls_never_has_a_login_sent_elsewhere() -> None:
    """Who can change an answer on its way cannot send a login elsewhere, not even where the setting allows it."""
    with pytest.raises(PermissionDenied):
        ask(asker("registry.lan", "http"), 'Bearer realm="https://auth.lan/token"', LOGIN, "registry.lan=auth.lan")


@pytest.mark.parametrize("text", ["registry.example", "=x", "x=", "a=b=c/d", "a=b c", "https://a=b"])
def test_setting_of_token_servers_that_is_none_is_refused(text: str) -> None:
    """A mistake in the setting is told at the start, not by a login that fails."""
    with pytest.raises(InvalidArgument):
        parse_token_servers(text)


def test_login_is_in_no_repr() -> None:
    """Printing what a login is sent with does not show it."""
    for login in (LOGIN, TOKEN):
        shown = repr((login, ask(SECURE, 'Bearer realm="https://registry.example/token"', login)))
        assert not any(secret in shown for secret in login.secrets)
