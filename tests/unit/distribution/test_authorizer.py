"""What a registry's question for credentials is answered with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import PermissionDenied, Unauthenticated
from hythe_distribution.authorizer import parse_challenges, token_request
from hythe_distribution.hosts import Endpoint, Source

SOURCE = Source("registry.example", "team/app")
SECURE = Endpoint("https", "registry.example", 443)
PLAIN = Endpoint("http", "127.0.0.1", 5000)


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
    found = token_request("resolve", SOURCE, SECURE, header)
    assert str(found.endpoint) == "https://auth.example:443"
    assert found.target == "/token?account=x&service=r+s&scope=repository%3Ateam%2Fapp%3Apull"


@pytest.mark.parametrize("header", ["", 'Basic realm="x"', "Bearer", 'Bearer service="s"', "nonsense"])
def test_registry_that_wants_a_login_is_unauthenticated(header: str) -> None:
    """Where no anonymous token can be had, the user is told that a login is wanted."""
    with pytest.raises(Unauthenticated):
        token_request("resolve", SOURCE, SECURE, header)


@pytest.mark.parametrize(
    ("registry", "realm"),
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
def test_token_server_that_breaks_the_rule_is_refused(registry: Endpoint, realm: str) -> None:
    """No token server without TLS on another host is asked, whoever names it."""
    with pytest.raises(PermissionDenied):
        token_request("resolve", SOURCE, registry, f'Bearer realm="{realm}"')


@pytest.mark.parametrize("realm", ["http://127.0.0.1:5001/token", "https://auth.example/token"])
def test_plain_registry_may_have_its_token_server_beside_it(realm: str) -> None:
    """On its own host a registry without TLS may have a token server without TLS."""
    assert token_request("resolve", SOURCE, PLAIN, f'Bearer realm="{realm}"').target.startswith("/token?")
