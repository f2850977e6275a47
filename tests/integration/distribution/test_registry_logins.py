"""The HTTP registry against servers that want a login, and against those that want to steal one."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe import tracing
from hythe.errors import HytheError, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Source
from scripts.lab.images import Image
from tests.fakes import faults
from tests.fakes.registry import Answer, FakeRegistry
from tests.fakes.registry_auth import PASSWORD, REFRESH, USER, TokenServer, basic, wants_basic, wants_token
from tests.fakes.tls import Authority, TlsRegistry
from tests.integration.distribution.pulling import BLOB, MANIFEST, NEVER, Logins, fetch, some_image, source_at

GOOD = Credentials(USER, PASSWORD)
WRONG = Credentials(USER, "wrong horse")
KEPT_TOKEN = Credentials(USER, "", REFRESH)


@pytest.fixture
def image() -> Image:
    """An image with one layer."""
    return some_image()


@pytest.fixture
def source(fake_registry: FakeRegistry, image: Image) -> Source:
    """The image as the repository ``app`` of a registry."""
    return source_at(fake_registry, image)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """A token server."""
    with TokenServer() as server:
        yield server


@pytest.fixture
def client_of(source: Source) -> Iterator[Callable[..., HttpRegistry]]:
    """A function that makes a client which has this login for the registry."""
    made: list[HttpRegistry] = []

    def make(login: Credentials | None, token_servers: str = "") -> HttpRegistry:
        logins = Logins({source.host: login} if login else {})
        made.append(
            HttpRegistry(connect_timeout_s=0.5, stall_timeout_s=0.5, credentials=logins, token_servers=token_servers)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


def authorizations(registry: FakeRegistry) -> list[str]:
    """Return what each request to a registry carried."""
    return [request.headers.get("authorization", "") for request in registry.requests]


def test_login_is_sent_once_asked_for_and_then_with_each_request(
    client_of: Callable[..., HttpRegistry], source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A registry that wants a user and password gets them after it asked, and is not made to ask again."""
    fake_registry.break_at("/v2/", wants_basic())
    client = client_of(GOOD)
    assert client.head(source, "1", NEVER) is not None
    assert fetch(client, source, image.layers[0]) == image.layers[0].data
    assert authorizations(fake_registry) == ["", basic(USER, PASSWORD), basic(USER, PASSWORD)]


def test_registry_that_wants_a_login_that_nobody_has_says_how_to_log_in(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry
) -> None:
    """Without a login, the next step is the command that makes one."""
    fake_registry.break_at("/v2/", wants_basic())
    with pytest.raises(Unauthenticated) as raised:
        client_of(None).manifest(source, "1", NEVER)
    assert raised.value.next_step == f"log in: hythe login {source.host}"
    assert len(fake_registry.requests) == 1


def test_wrong_login_ends_after_one_try_and_is_not_shown(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry
) -> None:
    """A registry that refuses for ever is asked twice, and the login that it says back stays out of the error."""
    fake_registry.break_at("/v2/", wants_basic())
    with pytest.raises(Unauthenticated) as raised:
        client_of(WRONG).manifest(source, "1", NEVER)
    assert len(fake_registry.requests) == 2
    assert "not you" in raised.value.cause
    assert not any(secret in raised.value.whole for secret in WRONG.secrets)


def test_token_is_got_with_the_login_for_this_repository_and_kept(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    image: Image,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
) -> None:
    """The login goes to the token server, the token to the registry, and one token does for a pull."""
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    client = client_of(GOOD)
    client.manifest(source, "1", NEVER)
    assert fetch(client, source, image.layers[0]) == image.layers[0].data
    (asked,) = tokens.asked
    assert (asked.method, asked.authorization) == ("GET", basic(USER, PASSWORD))
    assert dict(asked.query) == {"service": ["fake"], "scope": ["repository:app:pull"]}
    bearer = "Bearer good:repository:app:pull"
    assert authorizations(fake_registry) == ["", bearer, bearer]


def test_each_repository_has_its_own_token(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    image: Image,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
) -> None:
    """A token for one repository is not shown for another."""
    fake_registry.serve(image, "other:1")
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    client = client_of(GOOD)
    client.manifest(source, "1", NEVER)
    client.manifest(Source(source.host, "other"), "1", NEVER)
    client.manifest(source, "1", NEVER)
    assert [asked.query["scope"] for asked in tokens.asked] == [["repository:app:pull"], ["repository:other:pull"]]
    assert authorizations(fake_registry)[-1] == "Bearer good:repository:app:pull"


def test_token_that_has_run_out_is_replaced(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, tokens: TokenServer
) -> None:
    """A registry that no longer takes a token gets a new one, without anybody noticing."""
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    client = client_of(GOOD)
    client.manifest(source, "1", NEVER)
    fake_registry.mend()
    challenge = f'Bearer realm="http://127.0.0.1:{tokens.port}/token"'
    fake_registry.break_at("/v2/", faults.status(401, WWW_Authenticate=challenge), times=1)
    client.manifest(source, "1", NEVER)
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("post", [True, False])
def test_refresh_token_is_traded_for_a_token(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
    post: bool,
) -> None:
    """A refresh token is sent in a POST; where the server knows none, by GET, never in a URL."""
    tokens.rules.post, tokens.rules.anonymous = post, True
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    login = Credentials(USER, PASSWORD, REFRESH)
    assert client_of(login).manifest(source, "1", NEVER).raw
    first = tokens.asked[0]
    assert (first.method, first.form["grant_type"], first.form["refresh_token"]) == (
        "POST",
        ["refresh_token"],
        [REFRESH],
    )
    assert [asked.method for asked in tokens.asked] == (["POST"] if post else ["POST", "GET"])
    assert all(REFRESH not in str(asked.query) for asked in tokens.asked)


@pytest.mark.parametrize("login", [WRONG, Credentials(USER, "", "refresh-old")])
def test_login_that_the_token_server_refuses_is_not_shown(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
    login: Credentials,
) -> None:
    """The user is told to log in again; what the token server says back of the login is left out."""
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    with pytest.raises(Unauthenticated) as raised:
        client_of(login).manifest(source, "1", NEVER)
    assert "no login" in raised.value.cause
    assert not any(secret in raised.value.whole for secret in login.secrets)
    assert f"hythe login {source.host}" in raised.value.next_step
    assert len(tokens.asked) == 1


def test_token_server_that_fails_for_a_moment_is_asked_again(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, tokens: TokenServer
) -> None:
    """A token is worth a second try as well."""
    tokens.rules.statuses = [503, 429]
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    assert client_of(GOOD).manifest(source, "1", NEVER).raw
    assert len(tokens.asked) == 3


@pytest.mark.parametrize("login", [GOOD, KEPT_TOKEN])
def test_token_server_on_another_host_never_sees_a_login(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
    login: Credentials,
) -> None:
    """A registry that names somebody else's server as its own gets nothing sent there, not even a connection."""
    for realm in (f"http://localhost:{tokens.port}/token", f"https://localhost:{tokens.port}/token"):
        fake_registry.mend()
        fake_registry.break_at("/v2/", wants_token(realm))
        with pytest.raises(PermissionDenied) as raised:
            client_of(login, f"{source.host}=localhost").manifest(source, "1", NEVER)
        assert "localhost" in raised.value.whole
    assert tokens.asked == []


def test_token_server_that_redirects_is_not_followed(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, tokens: TokenServer
) -> None:
    """A login that was sent to a token server is not carried on."""
    with TokenServer() as elsewhere:
        tokens.rules.answer = Answer(307, b"", {"Location": f"http://127.0.0.1:{elsewhere.port}/token"})
        fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
        with pytest.raises(HytheError):
            client_of(GOOD).manifest(source, "1", NEVER)
        assert elsewhere.asked == []


def test_redirected_login_stays_behind(
    client_of: Callable[..., HttpRegistry], source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """Neither a password nor a token follows a redirect to another server, and a 401 there is no reason to send one."""
    with FakeRegistry() as other:
        other.serve(image, "app:1")
        layer = image.layers[0]
        fake_registry.break_at(MANIFEST, wants_basic())
        client = client_of(GOOD)
        client.manifest(source, "1", NEVER)
        fake_registry.break_at(BLOB, faults.redirect(f"http://{other.address}/v2/app/blobs/{layer.digest}"))
        assert fetch(client, source, layer) == layer.data
        other.break_at("/v2/", wants_basic())
        with pytest.raises(Unauthenticated):
            fetch(client, source, layer)
        assert authorizations(other) == ["", ""]


def test_token_server_elsewhere_gets_the_login_where_the_user_says_so(tmp_path: Path, image: Image) -> None:
    """With HYTHE_TOKEN_SERVERS a registry's token server may be on another host, over TLS; without, it gets nothing."""
    authority = Authority(tmp_path / "ca")
    serving = authority.serving()
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with TlsRegistry(serving) as registry, TokenServer(serving) as tokens:
        registry.serve(image, "app:1")
        registry.break_at("/v2/", wants_token(f"https://127.0.0.1:{tokens.port}/token"))
        host = f"localhost:{registry.port}"
        directory = tmp_path / "hosts" / host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "https://{host}"\n')
        logins, hosts = Logins({host: GOOD}), [tmp_path / "hosts"]
        strict = HttpRegistry(credentials=logins, hosts_dirs=hosts, tls=tls)
        with pytest.raises(PermissionDenied) as raised:
            strict.manifest(Source(host, "app"), "1", NEVER)
        assert f"HYTHE_TOKEN_SERVERS={host}=127.0.0.1" in raised.value.next_step
        assert tokens.asked == []
        told = HttpRegistry(credentials=logins, hosts_dirs=hosts, tls=tls, token_servers=f"{host}=127.0.0.1")
        assert told.manifest(Source(host, "app"), "1", NEVER).raw == image.manifest.data
        assert [asked.authorization for asked in tokens.asked] == [basic(USER, PASSWORD)]
        strict.close()
        told.close()


def test_changed_login_counts_at_once(source: Source, fake_registry: FakeRegistry, tokens: TokenServer) -> None:
    """After logging out nothing that was got with the old login is used any more."""
    tokens.rules.anonymous = True
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    logins = Logins({source.host: GOOD})
    client = HttpRegistry(credentials=logins)
    client.manifest(source, "1", NEVER)
    logins.forget(source.host)
    client.forget(source.host)
    client.manifest(source, "1", NEVER)
    assert [asked.authorization for asked in tokens.asked] == [basic(USER, PASSWORD), ""]
    client.close()


def test_login_with_a_password_is_taken_or_not(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry
) -> None:
    """Logging in says whether the registry takes user and password, before anything is kept."""
    fake_registry.break_at("/v2/", wants_basic())
    assert client_of(None).login(source.host, False, USER, PASSWORD, NEVER) == ""
    with pytest.raises(Unauthenticated) as raised:
        client_of(None).login(source.host, False, USER, "wrong horse", NEVER)
    assert raised.value.message.startswith(f"log in to {source.host}: ")
    assert not any(secret in raised.value.whole for secret in WRONG.secrets)


def test_login_at_a_token_server_gives_a_refresh_token_in_the_place_of_the_password(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, tokens: TokenServer
) -> None:
    """Where a registry gives a refresh token, the password needs not be kept."""
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    client = client_of(None)
    assert client.login(source.host, False, USER, PASSWORD, NEVER) == REFRESH
    assert "scope" not in tokens.asked[0].query
    tokens.rules.gives_refresh = False
    assert client.login(source.host, False, USER, PASSWORD, NEVER) == ""
    with pytest.raises(Unauthenticated):
        client.login(source.host, False, USER, "wrong horse", NEVER)


def test_login_never_goes_to_a_token_server_elsewhere(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, tokens: TokenServer
) -> None:
    """Logging in is bound by the same rule as pulling."""
    fake_registry.break_at("/v2/", wants_token(f"https://localhost:{tokens.port}/token"))
    with pytest.raises(PermissionDenied):
        client_of(None).login(source.host, False, USER, PASSWORD, NEVER)
    assert tokens.asked == []


def test_login_at_what_is_no_registry_or_wants_none(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry
) -> None:
    """An open registry takes any login; a server without the API is told to be none."""
    client = client_of(None)
    assert client.login(source.host, False, USER, "anything", NEVER) == ""
    fake_registry.break_at("/v2/", faults.status(404))
    with pytest.raises(Unavailable) as raised:
        client.login(source.host, False, USER, PASSWORD, NEVER)
    assert "is no registry" in raised.value.message


@pytest.mark.parametrize(
    ("host", "username", "password"),
    [
        ("../etc", USER, PASSWORD),
        ("team/app", USER, PASSWORD),
        ("registry", USER, PASSWORD),
        ("localhost:1", "a:b", PASSWORD),
        ("localhost:1", "", PASSWORD),
        ("localhost:1", USER, ""),
        ("localhost:1", "a\r\nb", PASSWORD),
    ],
)
def test_login_that_cannot_be_one_is_refused_before_anything_is_sent(
    client_of: Callable[..., HttpRegistry], host: str, username: str, password: str
) -> None:
    """What no registry could take is told without asking one."""
    with pytest.raises(InvalidArgument):
        client_of(None).login(host, False, username, password, NEVER)


class _Noted:
    """A tracing backend that keeps everything said about spans as text."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.said: list[str] = []

    @contextmanager
    def span(
        self, name: str, kind: str, attributes: Mapping[str, object], parent: Mapping[str, str] | None
    ) -> Iterator[_Noted]:
        self.names.append(name)
        self.said.append(str(attributes))
        try:
            yield self
        except HytheError as error:
            self.said.append(f"{error!r} {error.whole} {error.next_step} {error.details}")
            raise

    def set(self, key: str, value: object) -> None:
        self.said.append(f"{key}={value}")

    def event(self, name: str, **attributes: object) -> None:
        self.said.append(f"{name} {attributes}")

    def fail(self, message: str) -> None:
        self.said.append(message)

    def inject(self, headers: dict[str, str]) -> None:
        pass

    def trace_id(self) -> str:
        return ""


@pytest.fixture
def noted() -> Iterator[_Noted]:
    """What is said about spans while the test runs."""
    before = tracing._backend
    made = _Noted()
    tracing.install(made)
    yield made
    tracing.install(before)


def test_no_secret_is_in_a_span_or_a_log(
    client_of: Callable[..., HttpRegistry],
    source: Source,
    fake_registry: FakeRegistry,
    tokens: TokenServer,
    noted: _Noted,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Password, refresh token and tokens are seen by nobody but the servers that they are for."""
    caplog.set_level(logging.DEBUG)
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{tokens.port}/token"))
    client_of(GOOD).manifest(source, "1", NEVER)
    client_of(KEPT_TOKEN).manifest(source, "1", NEVER)
    client_of(None).login(source.host, False, USER, PASSWORD, NEVER)
    with pytest.raises(Unauthenticated):
        client_of(WRONG).manifest(source, "1", NEVER)
    everything = " ".join((*noted.said, caplog.text))
    assert "token" in noted.names
    for secret in (*GOOD.secrets, *KEPT_TOKEN.secrets, *WRONG.secrets, "good:"):
        assert secret not in everything


def test_place_that_a_redirect_leads_to_is_in_no_span(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, noted: _Noted
) -> None:
    """Who reads a trace cannot get the bytes from where a signed URL led: neither its path nor its query is noted."""
    port = fake_registry.address.rpartition(":")[2]
    fake_registry.break_at(MANIFEST, faults.redirect(f"http://localhost:{port}/signed/sesame?signature=sesame"))
    with pytest.raises(NotFound):
        client_of(None).manifest(source, "1", NEVER)
    everything = " ".join(noted.said)
    assert "localhost" in everything
    assert "sesame" not in everything


def test_sending_again_is_noted_on_the_span(
    client_of: Callable[..., HttpRegistry], source: Source, fake_registry: FakeRegistry, noted: _Noted
) -> None:
    """A trace shows which requests were sent again, and how often."""
    fake_registry.break_at(MANIFEST, faults.status(503), times=2)
    client_of(None).manifest(source, "1", NEVER)
    assert [text for text in noted.said if "resend" in text] == [
        "http.request.resend_count=1",
        "http.request.resend_count=2",
    ]
    assert noted.names == ["registry GET manifest"] * 3
