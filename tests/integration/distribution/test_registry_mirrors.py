"""The HTTP registry with ``hosts.toml`` files: mirrors that work, fail, are down, or want certificates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition, NotFound, Unavailable
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Source
from scripts.lab.images import Image
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import PASSWORD, USER, basic, wants_basic, wants_token
from tests.fakes.tls import Authority, TlsRegistry
from tests.integration.distribution.pulling import MANIFEST, NEVER, Logins, fetch, some_image, source_at, swallowing

GOOD = Credentials(USER, PASSWORD)


class Hosts:
    """A directory of ``hosts.toml`` files, and a client that reads it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logins = Logins({})
        self.client = HttpRegistry(
            connect_timeout_s=0.5, stall_timeout_s=0.5, hosts_dirs=[directory], credentials=self.logins
        )

    def say(self, host: str, text: str) -> Path:
        """Write what is said for a registry, and return its directory."""
        directory = self.directory / host
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)
        return directory


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """A directory that says nothing yet."""
    made = Hosts(tmp_path / "hosts")
    yield made
    made.client.close()


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    """A second registry."""
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def image() -> Image:
    """An image with several layers."""
    return some_image(5)


@pytest.fixture
def source(fake_registry: FakeRegistry, image: Image) -> Source:
    """The image at the registry itself."""
    return source_at(fake_registry, image)


def paths(registry: FakeRegistry) -> list[str]:
    """Return the requests that a registry has had."""
    return [f"{request.method} {request.path}" for request in registry.requests]


def test_mirror_is_asked_in_the_registrys_place_and_told_for_whom(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A pull through a mirror does not touch the registry, and the mirror learns which registry is meant."""
    mirror.serve(image, "app:1")
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    assert hosts.client.head(source, "1", NEVER) is not None
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert fetch(hosts.client, source, image.layers[0]) == image.layers[0].data
    assert fake_registry.requests == []
    assert all(path.endswith(f"?ns={source.host}") for path in paths(mirror))


def test_what_a_mirror_lacks_comes_from_the_next_and_at_last_from_the_registry(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """Hosts are asked in the order of the file; what none of them has, the registry has."""
    with FakeRegistry() as second:
        second.serve(image, "app:1")
        hosts.say(source.host, f'[host."http://{mirror.address}"]\n[host."http://{second.address}"]\n')
        assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
        assert (len(mirror.requests), len(second.requests), len(fake_registry.requests)) == (1, 1, 0)
        second.break_at("/v2/", faults.status(404))
        assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
        assert "ns=" not in fake_registry.requests[-1].path


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_mirror_that_refuses_is_passed_over_at_once(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, status: int
) -> None:
    """However a mirror fails, the registry is asked, without waiting for the mirror to recover."""
    mirror.break_at("/v2/", faults.status(status, Retry_After="20"))
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    started = time.monotonic()
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert len(mirror.requests) == 1
    assert time.monotonic() - started < 1


def test_error_is_that_of_the_registry_itself(hosts: Hosts, mirror: FakeRegistry, source: Source) -> None:
    """When nobody has an image, the registry's own answer is told."""
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    with pytest.raises(NotFound) as raised:
        hosts.client.manifest(source, "nowhere", NEVER)
    assert source.host in raised.value.message


def test_mirror_without_the_right_to_resolve_is_not_asked_what_a_tag_means(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A mirror that may only be pulled from gives content by digest, and never says what a tag points to."""
    mirror.serve(image, "app:1")
    hosts.say(source.host, f'[host."http://{mirror.address}"]\ncapabilities = ["pull"]\n')
    hosts.client.head(source, "1", NEVER)
    hosts.client.manifest(source, "1", NEVER)
    assert mirror.requests == []
    hosts.client.manifest(source, image.manifest.digest, NEVER)
    fetch(hosts.client, source, image.layers[0])
    assert (len(mirror.requests), len(fake_registry.requests)) == (2, 2)


def test_registry_that_may_not_be_used_for_something_is_told(hosts: Hosts, source: Source) -> None:
    """If no host may be used for what is wanted, the user learns which line to change."""
    hosts.say(source.host, f'server = "http://{source.host}"\ncapabilities = ["push"]\n')
    with pytest.raises(FailedPrecondition) as raised:
        hosts.client.manifest(source, "1", NEVER)
    assert "resolve" in raised.value.message
    assert "hosts.toml" in raised.value.next_step


def test_default_file_is_for_every_registry(hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image) -> None:
    """One ``_default`` puts a mirror before all registries."""
    mirror.serve(image, "app:1")
    hosts.say("_default", f'[host."http://{mirror.address}"]\n')
    hosts.client.manifest(source, "1", NEVER)
    assert len(mirror.requests) == 1


def test_server_takes_the_place_of_the_registry(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """``server`` says where the registry itself is."""
    mirror.serve(image, "app:1")
    hosts.say(source.host, f'server = "http://{mirror.address}"\n')
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert fake_registry.requests == []


def test_edited_file_counts_with_the_next_request(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A mirror can be added while the service runs."""
    mirror.serve(image, "app:1")
    hosts.client.manifest(source, "1", NEVER)
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    hosts.client.manifest(source, "1", NEVER)
    assert (len(mirror.requests), len(fake_registry.requests)) == (1, 1)


def test_broken_file_is_told_rather_than_passed_over(hosts: Hosts, source: Source) -> None:
    """Who relies on a mirror learns that the file is wrong, instead of pulling past it."""
    directory = hosts.say(source.host, '[host."http://m.example"]\ncapabilities = "steal"\n')
    with pytest.raises(FailedPrecondition) as raised:
        hosts.client.manifest(source, "1", NEVER)
    assert f"{directory}/hosts.toml" in raised.value.message
    assert "capabilities" in raised.value.message


def test_headers_go_to_the_mirror_alone(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """What the file says to send to a host is sent to no other, not even by a redirect."""
    hosts.say(
        source.host, f'[host."http://{mirror.address}".header]\nX-Team = ["a", "b"]\nAuthorization = "Basic c2VjcmV0"\n'
    )
    mirror.break_at("/v2/", faults.redirect(f"http://{source.host}/v2/app/manifests/1"))
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    sent, elsewhere = mirror.requests[-1].headers, fake_registry.requests[-1].headers
    assert (sent["x-team"], sent["authorization"]) == ("a, b", "Basic c2VjcmV0")
    assert "x-team" not in elsewhere
    assert "authorization" not in elsewhere


def test_overridden_path_is_used_as_it_is(hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image) -> None:
    """A mirror below a path is reached there, and its token asked for by its own name."""
    mirror.serve(image, "cache/app:1")
    mirror.break_at("/v2/", wants_token(f"http://{mirror.address}/token"))
    hosts.say(source.host, f'[host."http://{mirror.address}/v2/cache"]\noverride_path = true\n')
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert paths(mirror)[0] == f"GET /v2/cache/app/manifests/1?ns={source.host}"
    assert "scope=repository%3Acache%2Fapp%3Apull" in paths(mirror)[1]


def test_mirror_has_a_login_of_its_own(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """The registry's login is never shown to a mirror, nor the mirror's to the registry."""
    mirror.serve(image, "app:1")
    mirror.break_at("/v2/", wants_basic())
    fake_registry.break_at("/v2/", wants_basic())
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    hosts.logins.kept[source.host] = GOOD
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert "authorization" not in mirror.requests[-1].headers
    assert fake_registry.requests[-1].headers["authorization"] == basic(USER, PASSWORD)
    hosts.logins.kept = {mirror.address: GOOD}
    hosts.client.forget(source.host)
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert mirror.requests[-1].headers["authorization"] == basic(USER, PASSWORD)
    assert len(fake_registry.requests) == 2


def test_mirror_that_is_down_costs_one_dial_timeout_and_not_one_per_blob(
    hosts: Hosts, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A dead mirror is found out once; all the rest of the pull passes it over, and its time-out is the file's."""
    with swallowing() as port:
        hosts.say(source.host, f'[host."http://127.0.0.1:{port}"]\ndial_timeout = "300ms"\n')
        started = time.monotonic()
        hosts.client.manifest(source, "1", NEVER)
        first_s = time.monotonic() - started
        for layer in image.layers:
            assert fetch(hosts.client, source, layer) == layer.data
        whole_s = time.monotonic() - started
    assert 0.3 <= first_s < 0.5
    assert whole_s - first_s < 0.3
    assert len(fake_registry.requests) == 1 + len(image.layers)


def test_mirror_that_never_answers_is_passed_over_by_the_next(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image
) -> None:
    """A mirror that takes requests and stays silent costs one stall time, not one per blob."""
    mirror.break_at("/v2/", faults.silent())
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    for layer in image.layers:
        assert fetch(hosts.client, source, layer) == layer.data
    assert len(mirror.requests) == 1


def test_last_host_left_is_always_tried(
    hosts: Hosts, mirror: FakeRegistry, source: Source, image: Image, fake_registry: FakeRegistry
) -> None:
    """A registry that did not answer a moment ago is asked again at once when nobody else is left."""
    hosts.say(source.host, f'[host."http://{mirror.address}"]\n')
    mirror.break_at("/v2/", faults.silent(), times=1)
    fake_registry.break_at("/v2/", faults.silent(), times=2)
    with pytest.raises(Unavailable) as raised:
        hosts.client.manifest(source, "1", NEVER)
    assert raised.value.cause == "timed out"
    assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
    assert (len(mirror.requests), len(fake_registry.requests)) == (1, 3)


@pytest.mark.parametrize("spelling", ['"client.pem"', '["client.pem"]', '[["client.crt", "client.key"]]'])
def test_registry_with_its_own_authority_and_client_certificates_is_reached(
    hosts: Hosts, image: Image, tmp_path: Path, spelling: str
) -> None:
    """Authority and client certificate of the file are used, named relative to it; without them there is no way in."""
    authority = Authority(tmp_path / "ca")
    with TlsRegistry(authority.serving(want_client=True)) as registry:
        registry.serve(image, "app:1")
        source = Source(f"localhost:{registry.port}", "app")
        directory = hosts.say(source.host, f'server = "https://{source.host}"\n')
        with pytest.raises(FailedPrecondition) as raised:
            hosts.client.manifest(source, "1", NEVER)
        assert "not trusted" in raised.value.message
        hosts.say(source.host, f'server = "https://{source.host}"\nca = "ca.crt"\nclient = {spelling}\n')
        with pytest.raises(FailedPrecondition) as raised:
            hosts.client.manifest(source, "1", NEVER)
        assert f"read {directory}/hosts.toml: ca {directory}/ca.crt cannot be used" in raised.value.message
        (directory / "ca.crt").write_bytes(authority.certificate.read_bytes())
        shown = authority.issue("client")
        (directory / "client.crt").write_bytes(shown.certificate.read_bytes())
        (directory / "client.key").write_bytes(shown.key.read_bytes())
        (directory / "client.pem").write_bytes(shown.certificate.read_bytes() + shown.key.read_bytes())
        assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data


def test_registry_that_is_not_verified_is_reached_only_where_the_file_says_so(
    hosts: Hosts, image: Image, tmp_path: Path
) -> None:
    """``skip_verify`` is for one host; a redirect from there to another is verified."""
    serving = Authority(tmp_path / "ca").serving()
    with TlsRegistry(serving) as registry, TlsRegistry(serving) as other:
        registry.serve(image, "app:1")
        other.serve(image, "app:1")
        source = Source(f"localhost:{registry.port}", "app")
        hosts.say(source.host, "skip_verify = true\n")
        assert hosts.client.manifest(source, "1", NEVER).raw == image.manifest.data
        registry.break_at(MANIFEST, faults.redirect(f"https://localhost:{other.port}/v2/app/manifests/1"))
        with pytest.raises(FailedPrecondition):
            hosts.client.manifest(source, "1", NEVER)
        assert other.requests == []
