"""Logging in and out of registries: what a registry is called, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hythe.errors import InvalidArgument, Unauthenticated
from hythe_distribution.credentials import Credentials
from hythe_distribution.login import Logins, registry_host
from hythe_distribution.workers import Workers
from tests.fakes.strict_registry import KeptLogins, StrictRegistry


class Desk:
    """Logins with what they work with."""

    def __init__(self) -> None:
        self.registry, self.store, self.workers = StrictRegistry(), KeptLogins(), Workers("question", 1)
        self.logins = Logins(self.registry, self.store, self.workers)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk without any login."""
    made = Desk()
    yield made
    made.workers.close()


async def test_login_that_the_registry_takes_is_kept(desk: Desk) -> None:
    """User name and password are kept under the registry's name, and it is said where."""
    kept = await desk.logins.log_in("https://registry.example:5000/v2/", "me", "right", False)
    assert (kept.host, kept.kept_in) == ("registry.example:5000", "memory")
    assert desk.store.kept == {"registry.example:5000": Credentials("me", "right")}


async def test_identity_token_is_kept_in_place_of_the_password(desk: Desk) -> None:
    """A registry that gives a token spares the disk the password."""
    desk.registry.token = "token"
    await desk.logins.log_in("registry.example", "me", "right", False)
    assert desk.store.kept == {"registry.example": Credentials("me", identity_token="token")}


async def test_wrong_password_is_not_kept_or_told(desk: Desk) -> None:
    """A login that the registry refuses changes nothing, and the password is in no error."""
    with pytest.raises(Unauthenticated) as raised:
        await desk.logins.log_in("registry.example", "me", "hunter2", False)
    assert desk.store.kept == {}
    assert "hunter2" not in f"{raised.value!r}{raised.value.whole}"
    with pytest.raises(InvalidArgument):
        await desk.logins.log_in("registry.example", "", "right", False)


async def test_logout_forgets_and_says_whether_there_was_something(desk: Desk) -> None:
    """The second logout has nothing to forget; any spelling of the registry will do."""
    await desk.logins.log_in("docker.io", "me", "right", False)
    assert await desk.logins.log_out("https://index.docker.io/v1/") == ("docker.io", True)
    assert await desk.logins.log_out("docker.io") == ("docker.io", False)


async def test_changed_login_is_asked_for_anew(desk: Desk) -> None:
    """What was got with a login is used no longer than the login is kept."""
    await desk.logins.log_in("registry.example", "me", "right", False)
    await desk.logins.log_out("registry.example")
    assert desk.registry.forgotten == ["registry.example", "registry.example"]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("Registry.Example", "registry.example"),
        ("http://localhost:5000", "localhost:5000"),
        ("localhost", "localhost"),
        ("ghcr.io/owner/app", "ghcr.io"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_registry_is_called_as_in_references(text: str, host: str) -> None:
    """A registry's address in any form that people paste is the host that image references have."""
    assert registry_host(text) == host


@pytest.mark.parametrize("text", ["registry", "https://", "a b.example", "registry.example:99999", "/v2/", "x.y:z"])
def test_what_is_no_registry_is_refused(text: str) -> None:
    """A name that no reference could have is refused in place of being kept for nothing."""
    with pytest.raises(InvalidArgument):
        registry_host(text)


def test_password_in_an_address_is_refused_and_not_told() -> None:
    """Who pastes an address with a login in it does not find it in a log."""
    with pytest.raises(InvalidArgument) as raised:
        registry_host("https://me:hunter2@registry.example")
    assert "hunter2" not in raised.value.whole
