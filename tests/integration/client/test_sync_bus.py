"""The command line's client against a real server: requests, refusals, silence, broken connections."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from hythe import subjects
from hythe.bus import nkey
from hythe.client.root_span import CommandTrace
from hythe.client.sync_bus import SyncBus, read_bus_file
from hythe.errors import (
    DeadlineExceeded,
    HytheError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from tests.fixtures.secured_bus import Responder, SecuredBus
from tests.fixtures.waiting import freeze

LIST = subjects.rpc("default", "admin", "runtime", "container", "list")


async def _reply(message: Msg, responder: Responder) -> None:
    await responder.say(message.reply, "done", {"containers": []})


async def test_call_carries_ids_deadline_and_trace_and_brings_the_answer(bus: SecuredBus) -> None:
    """A request has its id, its latest begin, its timeout and the context of its own span, in lower-case headers."""
    runtime = Responder(await bus.client("runtime"), _reply)
    await runtime.listen(subjects.rpc_of_service("runtime"))
    trace = CommandTrace("hythe ps", {}, 1)

    def ask() -> dict[str, object]:
        client = bus.sync(trace=trace)
        try:
            return client.call(LIST, {"all": True}, request_id="r1")
        finally:
            client.close()

    before = time.time() * 1000
    assert await asyncio.to_thread(ask) == {"containers": []}
    subject, body, headers = runtime.requests[0]
    assert (subject, body) == (LIST, {"all": True})
    assert headers["hythe-request-id"] == "r1"
    assert int(headers["hythe-timeout-ms"]) <= 1800
    assert before < int(headers["hythe-begin-before"]) < before + 4000
    assert headers["traceparent"].split("-")[1] == trace.trace_id
    await runtime.client.close()


async def test_service_that_refuses_gives_its_own_error(bus: SecuredBus) -> None:
    """The error arrives with its class and all it says."""

    async def refuse(message: Msg, responder: Responder) -> None:
        await responder.refuse(message.reply, code="NotFound", message="no x", cause="c", details={"kind": "image"})

    runtime = Responder(await bus.client("runtime"), refuse)
    await runtime.listen(subjects.rpc_of_service("runtime"))
    with pytest.raises(NotFound, match="no x") as caught:
        await asyncio.to_thread(lambda: bus.sync().call(LIST, {}))
    assert (caught.value.cause, caught.value.details) == ("c", {"kind": "image"})
    await runtime.client.close()


def test_stopped_service_is_named_at_once_and_nothing_was_executed(bus: SecuredBus) -> None:
    """No responders is Unavailable with the service's name, long before any timeout."""
    client = bus.sync()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="runtime is not running on this stack") as caught:
        client.call(LIST, {})
    assert time.monotonic() - started < 0.5
    assert (caught.value.outcome, caught.value.service) == ("not started", "runtime")
    assert "hythe up" in caught.value.next_step


async def test_silent_service_is_named_within_two_seconds_with_unknown_outcome(bus: SecuredBus) -> None:
    """Silence is not a refusal: whether it took effect is unknown."""

    async def nothing(message: Msg, responder: Responder) -> None:
        pass

    runtime = Responder(await bus.client("runtime"), nothing)
    await runtime.listen(subjects.rpc_of_service("runtime"))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="runtime did not answer") as caught:
        await asyncio.to_thread(lambda: bus.sync().call(LIST, {}))
    assert time.monotonic() - started < 2.0
    assert (caught.value.outcome, caught.value.service) == ("unknown", "runtime")
    await runtime.client.close()


def test_subject_that_the_key_may_not_publish_fails_at_once(bus: SecuredBus) -> None:
    """A permission violation reaches the request that caused it, whatever the case of its letters."""
    client = bus.sync()
    started = time.monotonic()
    with pytest.raises(PermissionDenied, match="may not publish"):
        client.call(subjects.rpc("default", "SomeBody", "runtime", "container", "list"), {})
    assert time.monotonic() - started < 0.5
    with pytest.raises(Unavailable):
        client.call(LIST, {})


def test_unknown_key_is_unauthenticated(bus: SecuredBus) -> None:
    """A stranger's key is told so, whenever the server closes the door."""
    with pytest.raises(Unauthenticated):
        SyncBus(bus.url, nkey.generate(), "admin").call(LIST, {})


def test_nothing_listening_says_how_to_start_the_stack() -> None:
    """Connection refused is `the stack is not running`, with the command that starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="the stack is not running") as caught:
        SyncBus(f"nats://127.0.0.1:{port}", nkey.generate(), "admin")
    assert "hythe up --detach" in caught.value.next_step
    assert caught.value.service == "nats-server"


def test_missing_bus_file_says_how_to_start_the_stack(tmp_path: Path) -> None:
    """No bus.json is `the stack is not running`."""
    with pytest.raises(Unavailable, match="the stack is not running") as caught:
        read_bus_file(str(tmp_path / "bus.json"))
    assert "hythe up --detach" in caught.value.next_step


def test_hanging_server_is_given_up_within_two_seconds(bus: SecuredBus) -> None:
    """A server that accepts but never speaks is named as the one that does not answer."""
    freeze(bus.server.pid)
    try:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="nats-server did not answer"):
            bus.sync()
        assert 1.0 < time.monotonic() - started < 2.0
    finally:
        os.kill(bus.server.pid, signal.SIGCONT)


def test_server_that_hangs_later_is_told_from_a_service_that_hangs(bus: SecuredBus) -> None:
    """When the server itself falls silent in the middle, it is named, not the service behind it."""
    client = bus.sync()
    client.flush()
    freeze(bus.server.pid)
    try:
        with pytest.raises(Unavailable, match="nats-server did not answer") as caught:
            client.call(LIST, {})
        assert caught.value.outcome == "unknown"
    finally:
        os.kill(bus.server.pid, signal.SIGCONT)


def test_server_of_another_protocol_is_refused() -> None:
    """A port where something else listens gives an error of the closed set."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        host, port = other.getsockname()
        with socket.create_connection((host, port)) as first:
            accepted, _ = other.accept()
            accepted.close()
            first.close()
        import threading

        def speak() -> None:
            connection, _ = other.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(HytheError, match="not the NATS protocol"):
            SyncBus(f"nats://127.0.0.1:{port}", nkey.generate(), "admin")
        thread.join()


@pytest.mark.parametrize("url", ["tls://h:4222", "nats://", "nats://user:pw@h:1", "nats://h:x", "http://h:1"])
def test_address_that_is_not_offered_is_refused(url: str) -> None:
    """Only nats://host:port is an address; secrets in it are refused."""
    with pytest.raises(InvalidArgument):
        SyncBus(url, nkey.generate(), "admin")


def test_broken_connection_comes_back_with_its_subscriptions(bus: SecuredBus) -> None:
    """After a restart of the server the same subscriptions deliver again."""
    client = bus.sync("admin")
    seen: list[bytes] = []
    client.subscribe(subjects.events_of_namespace("default"), lambda frame: seen.append(frame.data))
    client.flush()
    again: list[bool] = []
    client.on_reconnect(lambda: again.append(True))
    bus.server.kill()
    with pytest.raises(Unavailable) as caught:
        while True:
            client.pump(5)
    assert caught.value.outcome == "unknown"
    bus.server.start()
    client.reconnect()
    agent = bus.sync("agent")
    agent.publish(subjects.event("default", "h1.lab", "container", "c", "started"), b"x")
    agent.flush()
    client.pump(2)
    assert (seen, again) == ([b"x"], [True])


def test_large_message_arrives_whole(bus: SecuredBus) -> None:
    """Messages of megabytes pass in both directions."""
    client, agent = bus.sync("admin"), bus.sync("agent")
    seen: list[bytes] = []
    client.subscribe(subjects.io_of_channel("default", "c"), lambda frame: seen.append(frame.data))
    client.flush()
    data = os.urandom(3 << 20)
    agent.publish(subjects.io("default", "h1.lab", "c", "stdout"), data, {"hythe-offset": "0"})
    agent.flush()
    while not seen:
        assert client.pump(2)
    assert seen == [data]
