"""What a ``hosts.toml`` means, and that none can do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import FailedPrecondition
from hythe_distribution.hosts import Source
from hythe_distribution.hosts_file import parse_hosts_file
from hythe_distribution.mirrors import ALL_CAPABILITIES, Entry, Server, servers_of

PATH = "/etc/hythe/certs.d/registry.example/hosts.toml"
SOURCE = Source("registry.example", "team/app")


def parse(text: str) -> tuple[Entry, ...]:
    """Return what a file says."""
    return parse_hosts_file(text.encode(), PATH)


def servers(text: str, source: Source = SOURCE) -> tuple[Server, ...]:
    """Return the servers that a file leads to."""
    return servers_of(source, parse(text))


def test_servers_are_asked_in_the_order_of_the_file_and_the_registry_last() -> None:
    """Mirrors come in the order in which they are written, the registry itself after them."""
    found = servers(
        """
        server = "https://upstream.example"
        [host."https://z.example:8443"]
        [host."http://a.example"]
        [host."m.example"]
        """
    )
    assert [str(each.endpoint) for each in found] == [
        "https://z.example:8443",
        "http://a.example:80",
        "https://m.example:443",
        "https://upstream.example:443",
    ]


def test_mirror_is_told_the_registry_that_it_stands_in_for() -> None:
    """A mirror gets ``?ns=``, the registry's own server doesn't."""
    mirror, own = servers('[host."https://mirror.example"]')
    assert mirror.target("team/app", "manifests/1") == "/v2/team/app/manifests/1?ns=registry.example"
    assert mirror.target("a", "blobs/uploads/?x=1") == "/v2/a/blobs/uploads/?x=1&ns=registry.example"
    assert own.target("team/app", "manifests/1") == "/v2/team/app/manifests/1"
    assert (mirror.login, own.login) == ("mirror.example", "registry.example")


def test_registry_without_a_file_is_asked_itself() -> None:
    """Without a ``hosts.toml`` there is one server, which may do everything."""
    (own,) = servers_of(Source("docker.io", "library/busybox"), None)
    assert (str(own.endpoint), own.login, own.namespace) == ("https://registry-1.docker.io:443", "docker.io", "")
    assert own.capabilities == ALL_CAPABILITIES


def test_own_server_named_in_the_file_keeps_the_registrys_login() -> None:
    """Naming a registry's own server does not change whose login it gets."""
    for source, url in (
        (SOURCE, "https://registry.example"),
        (Source("docker.io", "a"), "https://registry-1.docker.io"),
    ):
        (own,) = servers(f'server = "{url}"', source)
        assert (own.login, own.namespace) == (source.host, "")


def test_everything_that_containerd_knows_is_read() -> None:
    """All keys of a server arrive, with file names below the file's own directory."""
    (mirror, own) = parse(
        """
        ca = "own.pem"
        [host."https://mirror.example/some/path"]
        capabilities = ["pull", "Resolve"]
        ca = ["one.crt", "/abs/two.crt"]
        client = [["c.cert", "c.key"], ["both.pem", ""], "other.pem"]
        skip_verify = true
        override_path = true
        dial_timeout = "1m1.5s"
        [host."https://mirror.example/some/path".header]
        x-one = "1"
        x-two = ["a", "b"]
        """
    )
    directory = "/etc/hythe/certs.d/registry.example"
    assert mirror.base == "/some/path"
    assert mirror.capabilities == {"pull", "resolve"}
    assert mirror.trust.authorities == (f"{directory}/one.crt", "/abs/two.crt")
    assert mirror.trust.clients == (
        (f"{directory}/c.cert", f"{directory}/c.key"),
        (f"{directory}/both.pem", ""),
        (f"{directory}/other.pem", ""),
    )
    assert mirror.trust.skip_verify
    assert mirror.headers == (("x-one", "1"), ("x-two", "a, b"))
    assert mirror.dial_timeout_s == 61.5
    assert own.endpoint is None
    assert own.trust.authorities == (f"{directory}/own.pem",)


@pytest.mark.parametrize(
    ("url", "override", "base"),
    [
        ("https://m.example", False, "/v2"),
        ("https://m.example/", False, "/v2"),
        ("https://m.example/v2", False, "/v2"),
        ("https://m.example/v2/", False, "/v2"),
        ("https://m.example/mirror", False, "/mirror/v2"),
        ("https://m.example/v2/mirror", True, "/v2/mirror"),
        ("https://m.example/a/../v2/mirror/", True, "/v2/mirror"),
        ("https://m.example", True, ""),
    ],
)
def test_path_of_a_server_ends_in_v2_unless_it_is_overridden(url: str, override: bool, base: str) -> None:
    """The path is containerd's: ``/v2`` is added where it is missing, but never to an overridden path."""
    entry, _ = parse(f'[host."{url}"]\noverride_path = {str(override).lower()}')
    assert entry.base == base


def test_path_below_v2_is_part_of_the_name_that_a_mirror_gives_the_repository() -> None:
    """A token for a mirror with a path is asked for by the name that the mirror knows."""
    mirror, own = servers('[host."https://m.example/v2/cache"]\noverride_path = true')
    assert (mirror.name_of("team/app"), own.name_of("team/app")) == ("cache/team/app", "team/app")


def test_certificates_for_a_registry_on_loopback_mean_tls() -> None:
    """Who gives an authority for ``localhost:5000`` wants TLS there, unless plain HTTP is asked for."""
    (own,) = servers('ca = "ca.pem"', Source("localhost:5000", "app"))
    assert str(own.endpoint) == "https://localhost:5000"
    (own,) = servers('ca = "ca.pem"', Source("localhost:5000", "app", plain_http=True))
    assert str(own.endpoint) == "http://localhost:5000"


def test_keys_that_nobody_knows_are_passed_over() -> None:
    """A file for a newer containerd is still read."""
    assert len(parse('novel = 1\n[host."https://m.example"]\nnovelty = [{a = 1}]')) == 2


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("server = 5", "server"),
        ('server = "ftp://x"', "server"),
        ('server = "https://x:99999"', "server"),
        ('server = "https://x/?q"', "server"),
        ('server = "https://x/a b"', "server"),
        ('capabilities = ["steal"]', "capabilities"),
        ("capabilities = 5", "capabilities"),
        ("ca = 5", "ca"),
        ("ca = [5]", "ca"),
        ('ca = ""', "ca"),
        ('ca = "a\\u0000b"', "ca"),
        ("client = {}", "client"),
        ('client = [["a", "b", "c"]]', "client"),
        ("client = [[]]", "client"),
        ("client = [5]", "client"),
        ('skip_verify = "yes"', "skip_verify"),
        ("override_path = 1", "override_path"),
        ("header = 5", "header"),
        ('header = {"a b" = "c"}', "header.'a b'"),
        ('header = {a = "c\\r\\nd: e"}', "header.'a'"),
        ("header = {a = 5}", "header.a"),
        ("dial_timeout = 5", "dial_timeout"),
        ('dial_timeout = "5"', "dial_timeout"),
        ('dial_timeout = "0s"', "dial_timeout"),
        ('dial_timeout = "100h"', "dial_timeout"),
        ("host = 5", "host"),
        ("[host]\nx = 5", "host"),
        ('[host."ftp://x"]', 'host."ftp://x"'),
        ('[host.""]', 'host.""'),
        ('[host."https://m.example"]\nca = 5', 'host."https://m.example".ca'),
        ("".join(f'[host."h{i}.example"]\n' for i in range(65)), "host"),
    ],
)
def test_mistake_is_told_with_file_and_key(text: str, key: str) -> None:
    """Who made a mistake in a file is told where."""
    with pytest.raises(FailedPrecondition) as raised:
        parse(text)
    assert raised.value.message.startswith(f"read {PATH}: {key} ")


@pytest.mark.parametrize("raw", [b"\xff", b"a = ", b"[" * 100_000, b"a = " + b"[" * 100_000, b"a = " + b"9" * 10_000])
def test_file_that_is_no_toml_is_refused(raw: bytes) -> None:
    """Garbage, however deep or long, is an error and nothing worse."""
    with pytest.raises(FailedPrecondition) as raised:
        parse_hosts_file(raw, PATH)
    assert PATH in raised.value.message


def test_password_in_a_url_is_refused_and_not_shown() -> None:
    """A login does not belong into the file, and is not repeated when it stands there."""
    for mistake in ("", "ca = 5"):
        with pytest.raises(FailedPrecondition) as raised:
            parse(f'[host."https://ann:hunter2@m.example"]\n{mistake}')
        assert "hunter2" not in raised.value.whole
        assert "m.example" in raised.value.message


def test_headers_are_in_no_repr() -> None:
    """Headers may be secret, so they are not printed."""
    found = servers('[host."https://m.example".header]\nAuthorization = "Basic c2VjcmV0"')
    assert "c2VjcmV0" not in repr((found, parse('[host."https://m.example".header]\na = "c2VjcmV0"')))


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(raw: bytes) -> None:
    """No file makes the service fail otherwise than with its own error."""
    try:
        parse_hosts_file(raw, PATH)
    except FailedPrecondition as error:
        assert PATH in error.message
