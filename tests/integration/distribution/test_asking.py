"""Asking as pushing uses it: bodies, locations that a registry gives, and who is sent an authorization there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hythe.errors import FailedPrecondition, PermissionDenied, Unavailable
from hythe_distribution.adapters.hosts_files import HostsDirectories
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.connections import Pool
from hythe_distribution.adapters.registry.logins import Logins as KeptLogins
from hythe_distribution.breaker import Breaker
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Endpoint, Source, endpoint_of
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import PASSWORD, REFRESH, USER, TokenServer, basic, wants_basic, wants_token
from tests.integration.distribution.pulling import NEVER, Logins, some_image, source_at

FORM = f"refresh_token={REFRESH}".encode()


@pytest.fixture
def kept() -> Logins:
    """The logins there are."""
    return Logins({})


@pytest.fixture
def asking(kept: Logins) -> Iterator[Asking]:
    """What is asked with, with short limits."""
    pool = Pool(0.5, 0.5, None)
    yield Asking(pool, HostsDirectories([]), KeptLogins(pool, kept, {}), Breaker())
    pool.close()


@pytest.fixture
def taking() -> Iterator[TokenServer]:
    """A server that takes a form at any path and says whether it was right."""
    with TokenServer() as server:
        yield server


def at(server: TokenServer) -> Source:
    """Return a repository there."""
    return Source(f"127.0.0.1:{server.port}", "app")


def test_body_that_comes_in_parts_arrives(asking: Asking, taking: TokenServer) -> None:
    """An iterator is sent as one body of the length given, also on a connection that was used before."""
    for _ in range(2):
        parts = iter([FORM[:5], FORM[5:]])
        with asking.ask("push", "POST", at(taking), "x", NEVER, body=parts, body_bytes=len(FORM)) as response:
            assert response.status == 200
            response.read_all(1000)
    assert [asked.form["refresh_token"] for asked in taking.asked] == [[REFRESH], [REFRESH]]


def test_body_is_sent_again_only_where_that_does_no_harm(asking: Asking, taking: TokenServer) -> None:
    """A POST is repeated when the caller says so, and a body that can be read once never."""
    for body, repeatable, tries in ((FORM, True, 2), (FORM, None, 1), (iter([FORM]), True, 1)):
        taking.asked.clear()
        taking.rules.statuses = [503]
        with asking.ask(
            "push", "POST", at(taking), "x", NEVER, body=body, body_bytes=len(FORM), repeatable=repeatable
        ) as response:
            assert response.status == (200 if tries == 2 else 503)
        assert len(taking.asked) == tries


def test_authorization_for_a_push_is_asked_for_what_it_does(
    asking: Asking, kept: Logins, fake_registry: FakeRegistry, taking: TokenServer
) -> None:
    """A token to push may pull and push here, and pull where a blob is mounted from."""
    source = source_at(fake_registry, some_image())
    kept.kept[source.host] = Credentials(USER, PASSWORD)
    fake_registry.break_at("/v2/", wants_token(f"http://127.0.0.1:{taking.port}/token"))
    with asking.ask(
        "push", "GET", source, "manifests/1", NEVER, capability="push", actions=("pull", "push"), mount_from="base"
    ) as response:
        assert response.status == 200
    assert taking.asked[0].query["scope"] == ["repository:app:pull,push", "repository:base:pull"]


def test_body_that_can_be_sent_once_is_not_sent_again_with_a_login(
    asking: Asking, kept: Logins, fake_registry: FakeRegistry
) -> None:
    """If a login ran out during an upload, the upload goes on from where it was, rather than sending nothing."""
    source = source_at(fake_registry, some_image())
    kept.kept[source.host] = Credentials(USER, PASSWORD)
    fake_registry.break_at("/v2/", wants_basic())
    with pytest.raises(Unavailable) as raised:
        asking.ask("push", "GET", source, "manifests/1", NEVER, body=iter([b"x"]), body_bytes=1)
    assert "login" in raised.value.message
    with asking.ask("push", "GET", source, "manifests/1", NEVER) as response:
        assert response.status == 200


def test_location_on_the_registry_gets_the_login_and_one_elsewhere_does_not(
    asking: Asking, kept: Logins, fake_registry: FakeRegistry
) -> None:
    """An upload may go on at another server, but without the registry's login."""
    source = source_at(fake_registry, some_image())
    kept.kept[source.host] = Credentials(USER, PASSWORD)
    fake_registry.break_at("/v2/", wants_basic())
    origin = endpoint_of(source)
    with FakeRegistry() as other:
        other.serve(some_image(), "app:1")
        for location in ("/v2/app/manifests/1?x=1", f"http://{source.host}/v2/app/manifests/1"):
            with asking.ask_at("push", "GET", source, origin, location, NEVER) as response:
                assert (response.status, response.endpoint) == (200, origin)
        assert fake_registry.requests[-1].headers["authorization"] == basic(USER, PASSWORD)
        with asking.ask_at(
            "push", "GET", source, origin, f"http://{other.address}/v2/app/manifests/1", NEVER
        ) as response:
            assert response.status == 200
        assert "authorization" not in other.requests[-1].headers
        # what the other server leads back to is the registry's own again, but nothing that it names beside that
        back = Endpoint("http", "127.0.0.1", int(other.address.rpartition(":")[2]))
        with asking.ask_at("push", "GET", source, back, "/v2/app/manifests/1", NEVER) as response:
            assert response.endpoint == back
        assert "authorization" not in other.requests[-1].headers


@pytest.mark.parametrize("location", ["http://169.254.169.254/", "http://ann:pass@127.0.0.1/"])
def test_location_that_leads_where_it_may_not_is_refused(
    asking: Asking, fake_registry: FakeRegistry, location: str
) -> None:
    """A registry cannot make this host send a blob to its cloud's metadata service."""
    source = source_at(fake_registry)
    with pytest.raises(PermissionDenied):
        asking.ask_at("push", "PUT", source, endpoint_of(source), location, NEVER, body=b"x")


def test_redirect_of_what_is_sent_is_left_to_the_caller(asking: Asking, taking: TokenServer) -> None:
    """Only GET and HEAD follow redirects by themselves."""
    taking.rules.statuses = [307]
    with asking.ask("push", "POST", at(taking), "x", NEVER, body=FORM) as response:
        assert response.status == 307


def test_server_that_refuses_a_body_before_it_has_it_is_heard(asking: Asking) -> None:
    """A registry that says 413 and closes is understood, although the body could not be sent to its end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    if done.is_set():
                        break

        done = threading.Event()
        thread = threading.Thread(target=refuse)
        thread.start()
        source = Source(f"127.0.0.1:{server.getsockname()[1]}", "app")
        parts = (b"x" * 65536 for _ in range(16))
        with asking.ask("push", "PUT", source, "x", NEVER, body=parts, body_bytes=1 << 20) as response:
            assert response.status == 413
            assert response.read_front(10) == b"no!"
        done.set()
        thread.join()


def test_unused_port_of_a_push_is_told(asking: Asking) -> None:
    """A push to nobody is Unavailable like a pull."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        source = Source(f"127.0.0.1:{unused.getsockname()[1]}", "app")
        with pytest.raises(Unavailable):
            asking.ask("push", "POST", source, "x", NEVER, capability="push")


def test_push_goes_to_the_first_server_that_takes_pushes(
    tmp_path_factory: pytest.TempPathFactory, fake_registry: FakeRegistry
) -> None:
    """Mirrors that are not for pushing are left alone, and no push is spread over several servers."""
    directory = tmp_path_factory.mktemp("hosts")
    pool = Pool(0.5, 0.5, None)
    asking = Asking(pool, HostsDirectories([directory]), KeptLogins(pool, None, {}), Breaker())
    with FakeRegistry() as pulls, FakeRegistry() as pushes:
        source = source_at(fake_registry)
        (directory / source.host).mkdir()
        hosts = directory / source.host / "hosts.toml"
        pull, push = (
            f'[host."http://{server.address}"]\ncapabilities = ["{what}"]\n'
            for server, what in ((pulls, "pull"), (pushes, "push"))
        )
        hosts.write_text(pull)
        asking.ask("push", "HEAD", source, "blobs/x", NEVER, capability="push").close()
        assert (len(pulls.requests), len(fake_registry.requests)) == (0, 1)
        hosts.write_text(pull + push)
        asking.ask("push", "HEAD", source, "blobs/x", NEVER, capability="push").close()
        assert (len(pulls.requests), len(pushes.requests), len(fake_registry.requests)) == (0, 1, 1)
        hosts.write_text(f'server = "http://{source.host}"\ncapabilities = ["pull"]\n')
        with pytest.raises(FailedPrecondition):
            asking.ask("push", "HEAD", source, "blobs/x", NEVER, capability="push")
    pool.close()


def test_secret_that_a_refusal_repeats_is_taken_out_of_its_body(
    asking: Asking, kept: Logins, fake_registry: FakeRegistry
) -> None:
    """Whoever reads a refusal, however he shows it, cannot show a login."""
    source = source_at(fake_registry, some_image())
    kept.kept[source.host] = Credentials(USER, "wrong horse")
    fake_registry.break_at("/v2/", wants_basic())
    with asking.ask("push", "GET", source, "manifests/1", NEVER) as response:
        body = response.read_front(10_000)
    assert (response.status, b"not you: " in body, b"wrong horse" in body) == (401, True, False)
    fake_registry.mend()
    fake_registry.break_at("/v2/", faults.status(400, basic(USER, "wrong horse").encode()))
    with asking.ask("push", "GET", source, "manifests/1", NEVER) as response:
        assert b"***" in response.read_front(10_000)
