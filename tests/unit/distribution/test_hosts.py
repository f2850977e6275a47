"""Where a registry is reached, and where a stranger may lead us."""

from __future__ import annotations

import pytest

from hythe.errors import PermissionDenied, Unavailable
from hythe.reference import parse_reference
from hythe_distribution.hosts import Endpoint, Source, endpoint_of, may_be_led_to, redirected, source_of

SECURE = Endpoint("https", "registry.example", 443)
PLAIN = Endpoint("http", "127.0.0.1", 5000)


@pytest.mark.parametrize(
    ("host", "plain_http", "expected"),
    [
        ("docker.io", False, "https://registry-1.docker.io:443"),
        ("registry.example", False, "https://registry.example:443"),
        ("registry.example:5000", False, "https://registry.example:5000"),
        ("registry.example", True, "http://registry.example:80"),
        ("registry.example:5000", True, "http://registry.example:5000"),
        ("Registry.Example", False, "https://registry.example:443"),
        ("localhost", False, "http://localhost:80"),
        ("localhost:5000", False, "http://localhost:5000"),
        ("localhost:443", False, "https://localhost:443"),
        ("127.0.0.1:5000", False, "http://127.0.0.1:5000"),
        ("127.9.9.9:5000", False, "http://127.9.9.9:5000"),
        ("[::1]:5000", False, "http://[::1]:5000"),
        ("10.0.0.1:5000", False, "https://10.0.0.1:5000"),
        ("localhost.example:5000", False, "https://localhost.example:5000"),
        ("127.0.0.1.example:5000", False, "https://127.0.0.1.example:5000"),
        ("[2001:db8::1]:5000", False, "https://[2001:db8::1]:5000"),
    ],
)
def test_registry_speaks_https_but_on_loopback(host: str, plain_http: bool, expected: str) -> None:
    """TLS everywhere, but on this host's own addresses and where plain HTTP was asked for."""
    assert str(endpoint_of(Source(host, "app", plain_http))) == expected


def test_source_is_the_repository_of_a_reference() -> None:
    """Tag and digest play no part in where content comes from."""
    assert source_of(parse_reference("localhost:5000/a/b:1"), False) == Source("localhost:5000", "a/b")
    assert str(source_of(parse_reference("busybox"), True)) == "docker.io/library/busybox"


@pytest.mark.parametrize(
    ("current", "location", "endpoint", "target"),
    [
        (SECURE, "https://cdn.example/blob?sig=a%2Fb&x=1", "https://cdn.example:443", "/blob?sig=a%2Fb&x=1"),
        (SECURE, "/other/path", "https://registry.example:443", "/other/path"),
        (SECURE, "sibling", "https://registry.example:443", "/v2/app/blobs/sibling"),
        (SECURE, "//cdn.example:8443/x", "https://cdn.example:8443", "/x"),
        (SECURE, "https://CDN.example", "https://cdn.example:443", "/"),
        (PLAIN, "http://other.example/x", "http://other.example:80", "/x"),
        (PLAIN, "https://other.example/x", "https://other.example:443", "/x"),
    ],
)
def test_redirect_is_followed_as_http_says(current: Endpoint, location: str, endpoint: str, target: str) -> None:
    """Absolute and relative redirects lead where they say, and a signed query stays as it is."""
    found = redirected("fetch", current, "/v2/app/blobs/sha256:00", location)
    assert (str(found[0]), found[1]) == (endpoint, target)


@pytest.mark.parametrize(
    ("current", "location", "error"),
    [
        (SECURE, "http://cdn.example/x", PermissionDenied),
        (SECURE, "https://user:secret@cdn.example/x", PermissionDenied),
        (SECURE, "ftp://cdn.example/x", Unavailable),
        (SECURE, "file:///etc/passwd", Unavailable),
        (SECURE, "https://cdn.example:99999/x", Unavailable),
        (SECURE, "https://[::1/x", Unavailable),
        (SECURE, "https://cdn.example/a b", Unavailable),
        (SECURE, "https://cdn.example/\u00e9", Unavailable),
        (SECURE, "https://cdn.example/x\x7f", Unavailable),
    ],
)
def test_dangerous_redirect_is_refused(current: Endpoint, location: str, error: type[Exception]) -> None:
    """A redirect never takes TLS away, carries a login, or leaves HTTP."""
    with pytest.raises(error):
        redirected("fetch", current, "/v2/app/blobs/sha256:00", location)


@pytest.mark.parametrize(
    ("address", "from_loopback", "expected"),
    [
        ("93.184.216.34", False, True),
        ("10.0.0.5", False, True),
        ("127.0.0.1", False, False),
        ("127.0.0.1", True, True),
        ("::1", False, False),
        ("::1", True, True),
        ("::ffff:127.0.0.1", False, False),
        ("169.254.169.254", False, False),
        ("169.254.169.254", True, False),
        ("::ffff:169.254.169.254", True, False),
        ("fe80::1%eth0", True, False),
        ("0.0.0.0", True, False),
        ("::", True, False),
        ("224.0.0.1", True, False),
        ("not an address", True, False),
    ],
)
def test_stranger_cannot_lead_us_into_the_host(address: str, from_loopback: bool, expected: bool) -> None:
    """Link-local addresses are never connected to on a stranger's word, loopback only when the registry is there."""
    assert may_be_led_to(address, from_loopback=from_loopback) is expected
