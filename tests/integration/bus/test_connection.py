"""The connection itself: getting there, losing it, coming back, stored messages, and what others may send."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hythe import subjects
from hythe.bus import link, nkey
from hythe.bus.connection import Bus, Message
from hythe.client.jetstream import ensure_stream
from hythe.client.link import Link
from hythe.errors import (
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    HytheError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from hythe.metrics import Metrics
from hythe.stack.keys import ensure_keys
from tests.fakes.endpoints import Ask, Told, Work, do
from tests.fixtures.peers import Peers, figure
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import eventually, freeze, until

EXPECTED = "Nats-Expected-Last-Subject-Sequence"


@pytest.fixture
def start(peers: Peers, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A function that starts ``hythe-runtime`` as a process; it ends with the test."""
    environment = {
        "PATH": os.defpath,
        "HYTHE_ROOT": str(peers.directory),
        "HYTHE_STATE": str(tmp_path / "state"),
        "HYTHE_HOST": HOST,
        "NATS_URL": peers.secured.url,
        "HYTHE_CONFIG": os.devnull,
    }
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        with (peers.directory / "log").open("ab") as log:
            command = [sys.executable, "-m", "hythe_runtime.controller"]
            started.append(subprocess.Popen(command, env=environment, stderr=log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def log_of(peers: Peers) -> list[dict[str, Any]]:
    """Return what the process said."""
    return [json.loads(line) for line in (peers.directory / "log").read_text().splitlines()]


def make_streams(peers: Peers) -> None:
    """Make the two streams of a stack."""
    bus = peers.secured.sync("streams")
    for name, filtered in ((subjects.EVENT_STREAM, subjects.ALL_EVENTS), (subjects.SPAN_STREAM, subjects.ALL_SPANS)):
        ensure_stream(bus, {"name": name, "subjects": [filtered], "storage": "file"})
    bus.close()


async def answered(caller: Bus, text: str) -> bool:
    """Tell whether the service answers."""
    try:
        return (await caller.call(do(), Ask(text=text), Told)).text == text
    except HytheError:
        return False


async def test_server_killed_and_started_again_finds_its_clients_and_their_subscriptions(peers: Peers) -> None:
    """After kill -9 and a start on the same port everything works as before, without anybody's help."""
    service, caller = await peers.service("metadata", Work().register), await peers.bus("runtime")
    heard: list[bytes] = []
    returned: list[str] = []
    await caller.subscribe(subjects.ALL_BEATS, lambda message: heard.append(message.data))
    caller.on_reconnect(lambda: returned.append("back"))
    for text in ("one", "two"):
        peers.secured.server.kill()
        await until(lambda: not (caller.connected or service.bus.connected), what="both connections are lost")
        assert figure(service.metrics, "hythe_bus_connected") == 0
        await asyncio.to_thread(peers.secured.server.start)
        await until(lambda: caller.connected and service.bus.connected, what="both are back")
        deadline = time.monotonic() + 5
        while not await answered(caller, text):
            assert time.monotonic() < deadline
        agent = await peers.bus("agent")
        await agent.publish(subjects.beat(HOST), text.encode())
        await until(lambda: heard, what="the subscription is back")
        assert heard.pop() == text.encode()
    assert returned == ["back", "back"]
    assert figure(service.metrics, "hythe_bus_connected") == 1
    assert figure(service.metrics, "hythe_bus_reconnects_total") == 2


async def test_missing_server_is_unavailable_in_time(peers: Peers) -> None:
    """A process does not wait for ever for a server that does not come, and says how to start it."""
    peers.secured.server.kill()
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"nothing answered within 0\.8 s") as missing:
        await Bus.connect(peers.settings(), "runtime", Metrics("runtime"), timeout_s=0.8)
    assert time.monotonic() - started < 2.0
    assert "hythe up" in missing.value.next_step


async def test_server_that_starts_late_is_waited_for(peers: Peers) -> None:
    """Processes and server may start in any order."""
    peers.secured.server.kill()
    connecting = asyncio.create_task(peers.bus("runtime"))
    await asyncio.sleep(0)
    await asyncio.to_thread(peers.secured.server.start)
    assert (await connecting).connected


async def test_key_of_another_stack_is_refused(peers: Peers) -> None:
    """A key that the server does not know is named, without waiting for the end of the time limit."""
    ensure_keys(peers.directory / "other" / "keys")
    settings = peers.settings(root=str(peers.directory / "other"))
    started = time.monotonic()
    with pytest.raises(Unauthenticated, match="does not know the key"):
        await Bus.connect(settings, "runtime", Metrics("runtime"))
    assert time.monotonic() - started < 3.0


async def test_missing_key_is_named(peers: Peers) -> None:
    """Without its key file a process says which file it wants."""
    with pytest.raises(FailedPrecondition, match=r"stranger\.nk"):
        await Bus.connect(peers.settings(), "stranger", Metrics("stranger"))


async def test_forbidden_subscription_is_an_error_not_silence(peers: Peers) -> None:
    """A process whose key may not hear what it must hear says so at its start, rather than never answer."""
    runtime = await peers.bus("runtime")
    await runtime.subscribe(subjects.host_rpc_of_service(HOST, "agent"), lambda message: None)
    with pytest.raises(PermissionDenied, match="'runtime' may not") as refused:
        await runtime.flush()
    assert "host" in refused.value.cause
    await runtime.flush()


async def test_other_keys_inboxes_cannot_be_heard(peers: Peers) -> None:
    """Nobody reads another key's answers."""
    bundle = await peers.bus("bundle")
    for subject in ("_INBOX.>", "_INBOX.runtime.>"):
        await bundle.subscribe(subject, lambda message: None)
        with pytest.raises(PermissionDenied):
            await bundle.flush()


async def test_subscription_hands_over_messages_in_order(peers: Peers) -> None:
    """Whatever arrives on one subscription is taken one after another, in the order in which it was sent."""
    runtime, agent = await peers.bus("runtime"), await peers.bus("agent")
    heard: list[int] = []
    subscription = await runtime.subscribe(subjects.ALL_STATUSES, lambda message: heard.append(int(message.data)))
    await runtime.flush()
    for number in range(2000):
        await agent.publish(subjects.status("default", HOST), str(number).encode())
    await until(lambda: len(heard) == 2000, what="all arrive")
    assert heard == list(range(2000))
    await subscription.unsubscribe()
    await agent.publish(subjects.status("default", HOST), b"-1")
    await agent.flush()
    await runtime.flush()
    assert heard[-1] == 1999


async def test_callback_that_fails_stops_neither_the_others_nor_the_next_message(peers: Peers) -> None:
    """One message that a callback chokes on costs that message alone, and is counted."""
    runtime, agent = await peers.bus("runtime"), await peers.bus("agent")
    heard: list[bytes] = []

    def choke(message: Message) -> None:
        if message.data == b"bad":
            raise RuntimeError("choked")
        heard.append(message.data)

    await runtime.subscribe(subjects.ALL_BEATS, choke)
    await runtime.flush()
    for data in (b"one", b"bad", b"two"):
        await agent.publish(subjects.beat(HOST), data)
    await until(lambda: heard == [b"one", b"two"], what="the others arrive")
    assert figure(runtime.metrics, "hythe_bus_errors_total", kind="RuntimeError") == 1


@pytest.mark.parametrize(
    "hostile",
    [
        b"PUB hythe.v1.rpc.default.admin.runtime.\xff\xfe.do _INBOX.admin.x 2\r\n{}\r\n",
        b"PUB hythe.v1.rpc.default.admin.runtime.a\x0bb.do _INBOX.admin.x 2\r\n{}\r\n",
        b"PUB hythe.v1.rpc.default.admin.runtime.a\x0cb.do _INBOX.admin.x 2\r\n{}\r\n",
        b"PUB hythe.v1.rpc.default.admin.runtime.thing.do _INBOX.admin.\xff 2\r\n{}\r\n",
        b"HPUB hythe.v1.rpc.default.admin.runtime.thing.do _INBOX.admin.x 3 5\r\nabc{}\r\n",
        b"HPUB hythe.v1.rpc.default.admin.runtime.thing.do _INBOX.admin.x 8 10\r\nNATS/1.0{}\r\n",
        b"HPUB hythe.v1.rpc.default.admin.runtime.thing.do _INBOX.admin.x 16 18\r\nNATS/1.0 \xff\xff\xff\r\n\r\n{}\r\n",
        b"HPUB hythe.v1.rpc.default.admin.runtime.thing.do _INBOX.admin.x 20 22\r\nNATS/1.0\r\n\xff: \xfe\r\n\r\n{}\r\n",
        b"PUB hythe.v1.rpc.=ZZ.admin.runtime.thing.do _INBOX.admin.x 2\r\n{}\r\n",
        b"PUB hythe.v1.rpc.default.admin.runtime.a.b.c.d _INBOX.admin.x 2\r\n{}\r\n",
    ],
)
async def test_malformed_message_neither_deafens_nor_disconnects_a_service(peers: Peers, hostile: bytes) -> None:
    """Whoever may publish one subject cannot cut a service off with bytes that nobody expects."""
    process = await peers.service("runtime", Work().register)
    admin = await peers.bus("admin")
    attacker = Link(peers.secured.url, nkey.load(str(peers.secured.keys / "admin.nk")), "attacker")
    attacker.send(hostile * 3 + b"PING\r\n")
    eventually(lambda: attacker.receive(0.1), what="the server has taken it")
    attacker.close()
    assert (await admin.call(do("admin", "runtime"), Ask(text="still here"), Told)).text == "still here"
    assert figure(process.metrics, "hythe_bus_reconnects_total") == 0


async def test_stored_message_has_its_sequence_and_conflicts_are_told(peers: Peers) -> None:
    """The server's word that a message is stored, and its refusal when another was stored first."""
    make_streams(peers)
    agent = await peers.bus("agent")
    subject = subjects.event("default", HOST, "container", "c1", "start")
    assert await agent.last_stored(subjects.EVENT_STREAM, subject) is None
    first = await agent.publish_stored(subject, b"one", {EXPECTED: "0"})
    found = await agent.last_stored(subjects.EVENT_STREAM, subject.replace(".start", ".*"))
    assert found is not None
    assert (found[0], found[1].subject, found[1].data) == (first, subject, b"one")
    with pytest.raises(Conflict) as conflict:
        await agent.publish_stored(subject, b"two", {EXPECTED: "0"})
    assert conflict.value.details["last_sequence"] == str(first)
    second = await agent.publish_stored(subject, b"two", {EXPECTED: str(first)})
    assert second > first


async def test_stored_message_without_a_stream_says_so(peers: Peers) -> None:
    """Before the streams are made the error names what is missing."""
    agent = await peers.bus("agent")
    with pytest.raises(Unavailable, match="no stream takes it"):
        await agent.publish_stored(subjects.event("default", HOST, "container", "c1", "start"), b"")


async def test_connection_lost_while_storing_is_unknown_and_comes_back(peers: Peers) -> None:
    """An event in flight when the server dies has an unknown outcome, and the connection recovers."""
    make_streams(peers)
    agent = await peers.bus("agent")
    freeze(peers.secured.server.pid)
    storing = asyncio.create_task(agent.publish_stored(subjects.event("_", HOST, "container", "c1", "start"), b"x"))
    await asyncio.sleep(0)
    peers.secured.server.kill()
    with pytest.raises(Unavailable, match="connection broke") as lost:
        await storing
    assert lost.value.outcome == "unknown"
    await asyncio.to_thread(peers.secured.server.start)
    await until(lambda: agent.connected, what="the connection is back")
    assert await agent.publish_stored(subjects.event("_", HOST, "container", "c1", "start"), b"x") > 0


async def test_server_that_hangs_for_a_while_is_not_given_up(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that got no answer in time costs nothing but itself, when the answer comes after all."""
    monkeypatch.setattr(link, "FLUSH_WITHIN_S", 0.2)
    service, caller = await peers.service("metadata", Work().register), await peers.bus("runtime")
    freeze(peers.secured.server.pid)
    with pytest.raises(DeadlineExceeded, match="flush"):
        await caller.flush()
    os.kill(peers.secured.server.pid, signal.SIGCONT)
    assert (await caller.call(do(), Ask(text="goes on"), Told)).text == "goes on"
    assert caller.connected and service.bus.connected
    assert figure(caller.metrics, "hythe_bus_reconnects_total") == 0


async def test_process_that_the_server_cuts_off_for_good_ends_to_be_started_again(
    peers: Peers, tmp_path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """A process whose key is withdrawn does not live on deaf: it ends with code 1, and its log says why."""
    running = start()
    await until((tmp_path / "state" / "services" / "runtime.json").exists, what="it is ready")
    config = peers.directory / "nats-0" / "nats.conf"
    runtime = nkey.load(str(peers.secured.keys / "runtime.nk")).public
    config.write_text(config.read_text().replace(runtime, nkey.generate().public))
    os.kill(peers.secured.server.pid, signal.SIGHUP)
    assert await asyncio.to_thread(running.wait, 20) == 1
    assert any(line["level"] == "error" and "for good" in line["message"] for line in log_of(peers))


async def test_process_says_when_it_is_ready_and_stops_on_sigterm(
    peers: Peers, tmp_path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """The file of a ready process has its identity and figures' port; it is gone after a clean stop with code 0."""
    running = start()
    ready = tmp_path / "state" / "services" / "runtime.json"
    await until(ready.exists, what="it is ready")
    said = json.loads(ready.read_text())
    assert said["pid"] == running.pid
    assert said["metrics_port"] > 0
    running.terminate()
    assert await asyncio.to_thread(running.wait, 10) == 0
    assert not ready.exists()


async def test_process_that_waits_for_the_bus_stops_on_sigterm(
    peers: Peers, tmp_path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """Also a process that never got as far as the bus ends at once when it is told to."""
    peers.secured.server.kill()
    running = start()
    await until(lambda: b"SigCgt" in Path(f"/proc/{running.pid}/status").read_bytes(), what="it runs")

    def handles_sigterm() -> bool:
        status = Path(f"/proc/{running.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    await until(handles_sigterm, what="it handles signals")
    started = time.monotonic()
    running.terminate()
    assert await asyncio.to_thread(running.wait, 10) == 0
    assert time.monotonic() - started < 5


async def test_process_without_a_bus_ends_with_an_error_that_says_why(
    peers: Peers, tmp_path: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """`hythe up` starts it again; its log has the reason as one line of JSON."""
    peers.secured.server.kill()
    running = start()
    assert await asyncio.to_thread(running.wait, 20) == 1
    last = log_of(peers)[-1]
    assert last["level"] == "error"
    assert "connect to the bus" in last["message"]
