"""The server's configuration: nobody without a key, loopback only, and no more than its version understands."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from hythe import settings
from hythe.bus.permissions import ROLES
from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.settings import Settings
from hythe.stack import nats_server
from hythe.stack.keys import ensure_keys
from hythe.stack.nats_config import render
from hythe.stack.nats_server import NatsServer
from hythe.stack.streams import Limits, limits_of, parse_version, wanted
from tests.fixtures.servers import nats_server_program


def _settings(tmp_path: Path, **flags: str) -> Settings:
    (tmp_path / "hythe.toml").touch()
    found = {"root": str(tmp_path / "root"), "state": str(tmp_path / "state"), **flags}
    return settings.load(found, {"HYTHE_CONFIG": str(tmp_path / "hythe.toml")})


def _server(tmp_path: Path, **flags: str) -> NatsServer:
    loaded = _settings(tmp_path, **flags)
    loaded.state.mkdir(exist_ok=True)
    return NatsServer(loaded, ensure_keys(loaded.keys_dir))


def test_server_itself_accepts_the_configuration(tmp_path: Path) -> None:
    """`nats-server -t` finds nothing wrong, also with strange names of host and directory."""
    text = render(
        port=4222,
        store=tmp_path / 'a "b" $c',
        host='h"1.$x',
        public_keys=ensure_keys(tmp_path / "keys"),
        version=(2, 15, 1),
    )
    (tmp_path / "nats.conf").write_text(text)
    done = subprocess.run(
        [nats_server_program(), "-t", "-c", tmp_path / "nats.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("events_bytes", "room"), [(512 << 20, 2 << 30), (2 << 30, (2 << 30) + (512 << 20))])
def test_server_has_room_for_the_events_that_the_settings_keep(tmp_path: Path, events_bytes: int, room: int) -> None:
    """A larger stream of events gets a larger store, so that the server does not refuse it."""
    text = render(
        port=1, store=tmp_path, host="h", public_keys=ensure_keys(tmp_path), version=(2, 15), events_bytes=events_bytes
    )
    assert f"max_file_store: {room}\n" in text


@pytest.mark.parametrize("value", ["", "0", "65535", "x", "-1"])
def test_stream_of_events_that_could_hold_nothing_is_refused(tmp_path: Path, value: str) -> None:
    """A size below 64 KiB, or none at all, is a mistake; an empty one is the default."""
    if not value:
        assert limits_of(_settings(tmp_path)) == Limits()
        return
    with pytest.raises(InvalidArgument, match="events_bytes"):
        _settings(tmp_path, events_bytes=value)


def test_settings_limit_the_stream_of_events(tmp_path: Path) -> None:
    """Age and size are what the settings say, in the server's units."""
    limits = limits_of(_settings(tmp_path, events_age="3600", events_bytes="1048576"))
    events = wanted((2, 15), limits)[0]
    assert (events["max_age"], events["max_bytes"]) == (3600 * 10**9, 1 << 20)


def test_configuration_holds_public_halves_only_and_opens_no_other_door(tmp_path: Path) -> None:
    """Loopback, one user per key, no seed, no anonymous user, no monitoring port."""
    public = ensure_keys(tmp_path)
    text = render(port=1, store=tmp_path, host="h", public_keys=public, version=(2, 15))
    assert 'host: "127.0.0.1"' in text
    assert all(text.count(key) == 1 for key in public.values())
    assert not any((tmp_path / f"{role}.nk").read_text().strip() in text for role in ROLES)
    assert "no_auth_user" not in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("version", "syncs", "persist"), [((2, 9, 10), False, None), ((2, 10), True, None), ((2, 12), True, "async")]
)
def test_options_are_sent_only_to_versions_that_know_them(
    tmp_path: Path, version: tuple[int, ...], syncs: bool, persist: str | None
) -> None:
    """An old server gets no option that it would refuse or ignore in silence."""
    text = render(port=1, store=tmp_path, host="h", public_keys={}, version=version)
    assert ("sync_interval: always" in text) is syncs
    assert wanted(version)[1].get("persist_mode") == persist


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("v2.15.1", (2, 15, 1)), ("2.9.10", (2, 9, 10)), ("2.14.0-RC.1", (2, 14, 0)), ("", ()), ("x", ()), ("2.x", (2,))],
)
def test_version_is_read_as_far_as_it_is_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """Odd versions never break the start."""
    assert parse_version(text) == numbers


def test_port_stays_the_same_at_the_next_start(tmp_path: Path) -> None:
    """A random port is chosen once and remembered, and bus.json names it."""
    server = _server(tmp_path)
    port = server.prepare(keep_port=False)
    assert _server(tmp_path).prepare(keep_port=False) == port
    assert f'"nats://127.0.0.1:{port}"' in (tmp_path / "state" / "bus.json").read_text()


def test_remembered_port_that_somebody_took_is_left_to_him(tmp_path: Path) -> None:
    """With a random port the stack moves; its own living server keeps the port."""
    server = _server(tmp_path)
    port = server.prepare(keep_port=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert server.prepare(keep_port=True) == port
        assert server.prepare(keep_port=False) != port


def test_port_of_the_settings_is_used_or_refused(tmp_path: Path) -> None:
    """HYTHE_NATS_PORT is never replaced by another port in silence."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(FailedPrecondition, match=str(port)) as caught:
            _server(tmp_path, nats_port=str(port)).prepare(keep_port=False)
        assert "HYTHE_NATS_PORT" in caught.value.next_step
    assert _server(tmp_path, nats_port=str(port)).prepare(keep_port=False) == port


def test_program_that_is_no_server_or_too_old_is_refused(tmp_path: Path) -> None:
    """A wrong program is named before anything is started."""
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.8.4\n")
    with pytest.raises(FailedPrecondition, match="is no program"):
        _server(tmp_path, nats_server=str(old))
    old.chmod(0o755)
    with pytest.raises(FailedPrecondition, match=r"2\.8\.4"):
        _server(tmp_path, nats_server=str(old))


def test_old_but_usable_server_comes_with_a_warning(tmp_path: Path) -> None:
    """What an old version cannot do is said at the start."""
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    assert any("cannot sync" in warning for warning in _server(tmp_path, nats_server=str(old)).warnings)
    assert nats_server.url_of(1) == "nats://127.0.0.1:1"
