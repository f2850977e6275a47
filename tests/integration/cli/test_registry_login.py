"""`hythe login` and `logout`: where a password comes from, and where it never goes."""

from __future__ import annotations

import asyncio
import os

import pytest

from hythe.wire import images
from tests.fakes.distribution_desk import Distribution
from tests.fixtures.waiting import eventually_async
from tests.integration.cli.conftest import Desk


async def test_login_takes_the_password_from_stdin_and_never_shows_it(desk: Desk, distribution: Distribution) -> None:
    """A password goes to the service and nowhere else: not to the screen, not into the trace."""
    distribution.answers["registry.login"] = images.RegistryLoggedIn(
        host="r.example", kept_in="/root/.docker/config.json"
    )
    code, out, err = await desk.run("login", "-u", "me", "--password-stdin", "r.example", stdin=b"s3cret\n")
    assert (code, out, err) == (0, "Login Succeeded\nkept in /root/.docker/config.json\n", "")
    assert distribution.asked == [images.RegistryLogin(host="r.example", username="me", password="s3cret")]
    assert "s3cret" not in (await desk.run("trace", "show", "last", "--json"))[1]
    code, _, err = await desk.run("login", "-u", "me", "-p", "s3cret")
    assert (code, err.startswith("warning: a password on the command line")) == (0, True)
    assert distribution.asked[-1].host == "docker.io"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["-u", "me"], None, 6),
        ([], None, 6),
        (["--password-stdin"], b"x", 2),
        (["-u", "me", "--password-stdin"], b"\n", 2),
        (["-u", "me", "--password-stdin"], b"\xff", 2),
        (["-u", "me", "--password-stdin", "-p", "x"], b"x", 2),
    ],
)
async def test_login_without_a_usable_password_asks_no_service(
    desk: Desk, distribution: Distribution, arguments: list[str], stdin: bytes | None, code: int
) -> None:
    """What is missing is said before anything is sent."""
    found, _, err = await desk.run("login", *arguments, stdin=stdin)
    assert (found, distribution.asked, "Traceback" in err) == (code, [], False), err


@pytest.mark.parametrize(
    ("removed", "said"), [(True, "Removed the login for r.example"), (False, "Not logged in to r.example")]
)
async def test_logout_says_whether_there_was_a_login(
    desk: Desk, distribution: Distribution, removed: bool, said: str
) -> None:
    """Logging out twice is no error."""
    distribution.answers["registry.logout"] = images.RegistryLoggedOut(host="r.example", removed=removed)
    assert await desk.run("logout", "r.example") == (0, f"{said}\n", "")


async def test_login_asks_on_a_terminal_without_echo(desk: Desk, distribution: Distribution) -> None:
    """What is typed as a password is not seen."""
    distribution.answers["registry.login"] = images.RegistryLoggedIn(host="docker.io", kept_in="x")
    process, terminal = desk.start_on_terminal("login")
    shown = b""

    async def shows(text: bytes) -> None:
        nonlocal shown

        async def come() -> bool:
            nonlocal shown
            shown += await asyncio.to_thread(os.read, terminal, 1 << 16)
            return text in shown

        await eventually_async(come)

    await shows(b"Username")
    os.write(terminal, b"me\n")
    await shows(b"Password for me: ")
    os.write(terminal, b"s3cret\n")
    await shows(b"Login Succeeded")
    assert await asyncio.to_thread(process.wait, 10) == 0
    os.close(terminal)
    assert b"s3cret" not in shown
    assert distribution.asked == [images.RegistryLogin(host="docker.io", username="me", password="s3cret")]
