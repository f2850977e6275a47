"""`hythe run` against a made-up runtime and agent: streams, flow, signals, loss, ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from hythe import subjects
from tests.fixtures.secured_bus import HOST, Responder
from tests.fixtures.waiting import eventually_async
from tests.integration.cli.conftest import Desk

WINDOW = 1 << 20


def _status(body: dict[str, Any], status: str, code: int | None = None, reason: str = "") -> dict[str, Any]:
    return {"status": {"id": body["id"], "name": "c", "namespace": "default", "host": HOST, "status": status,
                       "exit_code": code, "reason": reason}, "warnings": []}  # fmt: skip


class Container:
    """A container that a test plays: what it says, when it ends, what it is asked."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.credits: list[dict[str, Any]] = []
        self.stdin: list[tuple[int, bytes]] = []
        self.body: dict[str, Any] = {}
        self.inbox = ""
        self.started = asyncio.Event()
        self.start_at_once = True

    async def open(self) -> None:
        """Connect runtime and agent."""
        self.runtime = await self._desk.serve("runtime", self._answer)
        self.agent = await self._desk.agent()
        await self.agent.client.subscribe(subjects.io_to_host(HOST, "credit"), cb=self._credit)
        await self.agent.client.subscribe(subjects.io_to_host(HOST, "stdin"), cb=self._stdin)
        await self.agent.client.flush()

    async def _credit(self, message: Msg) -> None:
        self.credits.append(json.loads(message.data))

    async def _stdin(self, message: Msg) -> None:
        assert message.headers is not None
        self.stdin.append((int(message.headers["hythe-offset"]), message.data))

    async def _answer(self, message: Msg, service: Responder) -> None:
        verb = message.subject.rpartition(".")[2]
        body = json.loads(message.data)
        if verb != "run":
            self.asked.append((verb, body))
            await service.say(message.reply, "done", {})
            return
        self.body, self.inbox = body, message.reply
        await service.say(message.reply, "accepted", {})
        if self.start_at_once:
            await self.start()
        self.started.set()

    async def start(self) -> None:
        """Report that it runs."""
        await self.runtime.say(self.inbox, "progress", _status(self.body, "running"))

    async def write(self, stream: str, offset: int, data: bytes) -> None:
        """Send a chunk of its output."""
        subject = subjects.io("default", HOST, self.body["io"]["channel"], stream)
        await self.agent.client.publish(subject, data, headers={"hythe-offset": str(offset)})

    async def end(self, code: int | None, stdout: int = 0, stderr: int = 0, **more: Any) -> None:
        """Send the channel's end and then the operation's result."""
        subject = subjects.io("default", HOST, self.body["io"]["channel"], "end")
        body = {"exit_code": code, "stdout_bytes": stdout, "stderr_bytes": stderr, **more}
        await self.agent.client.publish(subject, json.dumps(body).encode())
        await self.agent.client.flush()
        await self.result(code, more.get("reason", ""))

    async def result(self, code: int | None, reason: str = "") -> None:
        """Send the operation's result alone."""
        await self.runtime.say(self.inbox, "done", _status(self.body, "exited", code, reason))


@pytest.fixture
async def container(desk: Desk) -> Container:
    """A container that starts when it is asked to."""
    made = Container(desk)
    await made.open()
    return made


async def _finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = await asyncio.to_thread(process.communicate, None, 30)
    return process.returncode, out, err


async def test_output_stays_apart_and_the_exit_code_is_the_containers(desk: Desk, container: Container) -> None:
    """stdout and stderr arrive on their own descriptors; the code is the command's own."""
    process = desk.start("run", "--rm", "img", "x")
    await container.started.wait()
    await container.write("stdout", 0, b"out\x00\xff")
    await container.write("stderr", 0, b"err")
    await container.end(42, 5, 3)
    assert await _finish(process) == (42, b"out\x00\xff", b"err")
    assert (container.body["image"], container.body["spec"]["args"]) == ("img", ["x"])
    assert container.body["io"]["credit_bytes"] == WINDOW


async def test_command_waits_for_every_byte_after_the_result(desk: Desk, container: Container) -> None:
    """The result overtakes the last bytes: the command ends only when it has them, after asking for them again."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.write("stdout", 0, b"first ")
    await container.end(3, 11)
    await eventually_async(_any_resend(container), what="it asks for the rest")
    assert process.poll() is None
    await container.write("stdout", 6, b"later")
    assert await _finish(process) == (3, b"first later", b"")


def _any_resend(container: Container) -> Any:
    async def found() -> bool:
        return any(credit["resend"] and credit["have"] == 6 for credit in container.credits)

    return found


async def test_result_without_the_channels_end_is_not_the_end(desk: Desk, container: Container) -> None:
    """Without the final offsets nobody knows whether the output is whole."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.result(0)
    with pytest.raises(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, 0.5)
    await container.end(0)
    assert (await _finish(process))[0] == 0


async def test_slow_reader_stops_the_sender_and_gets_everything(desk: Desk, container: Container) -> None:
    """A reader that pauses leaves the sender without credit after one window; then all of it arrives."""
    process = desk.start("run", "img")
    await container.started.wait()
    data = os.urandom(3 * WINDOW)
    sent, until = 0, WINDOW
    while sent < until:
        await container.write("stdout", sent, data[sent : sent + 65536])
        sent += 65536
    await asyncio.sleep(0.3)
    stalled = max([credit["until"] for credit in container.credits], default=WINDOW)
    assert stalled < len(data)
    reading = asyncio.create_task(_finish(process))
    while sent < len(data):
        until = max([credit["until"] for credit in container.credits], default=WINDOW)
        if sent < until:
            chunk = data[sent : min(until, sent + 65536)]
            await container.write("stdout", sent, chunk)
            sent += len(chunk)
        await asyncio.sleep(0)
    await container.end(0, len(data))
    code, out, _ = await reading
    assert (code, out == data) == (0, True)


async def test_reader_that_goes_away_stops_the_container(desk: Desk, container: Container) -> None:
    """With `| head -1` the container is asked to stop, as SIGPIPE would end a local process."""
    process = desk.start("run", "img")
    assert process.stdout is not None
    await container.started.wait()
    process.stdout.close()
    await container.write("stdout", 0, b"x" * 100_000)

    async def asked() -> bool:
        return bool(container.asked)

    await eventually_async(asked, what="runtime is asked to stop it")
    assert container.asked == [("stop", {"key": container.body["id"], "timeout_s": 1.0})]
    await container.end(143, 100_000)
    assert await asyncio.to_thread(process.wait, 10) == 143


async def test_signals_are_passed_on_and_the_third_kills(desk: Desk, container: Container) -> None:
    """SIGINT and SIGTERM reach the container; who insists gets SIGKILL."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.write("stdout", 0, b"up\n")
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"up\n"
    for number, expected in enumerate(["SIGINT", "SIGTERM", "SIGKILL", "SIGKILL"]):
        process.send_signal(signal.SIGTERM if number == 1 else signal.SIGINT)

        async def told(count: int = number + 1) -> bool:
            return len(container.asked) == count

        await eventually_async(told, what=f"signal {number + 1} is passed on")
        assert container.asked[-1] == ("kill", {"key": container.body["id"], "signal": expected})
    await container.end(137, 3)
    assert (await _finish(process))[0] == 137


async def test_signal_before_the_start_is_passed_on_at_the_start(desk: Desk, container: Container) -> None:
    """Ctrl-C while an image is fetched is not lost."""
    container.start_at_once = False
    process = desk.start("run", "img")
    await container.started.wait()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"once more leaves at once" in await asyncio.to_thread(process.stderr.readline)
    assert container.asked == []
    await container.start()

    async def told() -> bool:
        return container.asked == [("kill", {"key": container.body["id"], "signal": "SIGINT"})]

    await eventually_async(told, what="the signal is passed on")
    await container.end(130)
    assert (await _finish(process))[0] == 130


async def test_second_signal_before_the_start_leaves_and_says_what_may_remain(desk: Desk, container: Container) -> None:
    """Twice Ctrl-C ends the command with 125 and the command that would remove the container."""
    container.start_at_once = False
    process = desk.start("run", "img")
    await container.started.wait()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    await asyncio.to_thread(process.stderr.readline)
    process.send_signal(signal.SIGINT)
    code, _, err = await _finish(process)
    assert code == 125
    assert f"hythe rm -f {container.body['id'][:12]}" in err.decode()


async def test_stdin_is_sent_at_the_containers_pace(desk: Desk, container: Container) -> None:
    """Nothing before credit, everything within it, the end of file last."""
    process = desk.start("run", "-i", "img", stdin=subprocess.PIPE)
    finishing = asyncio.create_task(asyncio.to_thread(process.communicate, b"a" * 100_000, 30))
    await container.started.wait()
    assert container.body["spec"]["stdin"] is True
    subject = subjects.io("default", HOST, container.body["io"]["channel"], "credit")
    for until in (1000, 200_000):
        await container.agent.client.publish(
            subject, json.dumps({"stream": "stdin", "have": 0, "until": until}).encode()
        )
        expected = min(until, 100_000)

        async def arrived(count: int = expected) -> bool:
            return sum(len(data) for _, data in container.stdin) == count

        await eventually_async(arrived, what=f"{expected} bytes of stdin")

    async def ended() -> bool:
        return container.stdin[-1] == (100_000, b"")

    await eventually_async(ended, what="the end of file")
    await container.end(0)
    await finishing
    assert process.returncode == 0


async def test_bus_that_restarts_loses_no_byte_and_no_result(desk: Desk, container: Container) -> None:
    """After a restart of the server the streams go on from their offsets and the result is asked for."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.write("stdout", 0, b"before ")
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.read, 7) == b"before "
    await asyncio.to_thread(desk.bus.server.kill)
    await asyncio.to_thread(desk.bus.server.start)

    async def connected() -> bool:
        return container.agent.client.is_connected and container.runtime.client.is_connected

    await eventually_async(connected, what="the services are back")

    async def asked_again() -> bool:
        return any(credit["have"] == 7 and credit["resend"] for credit in container.credits)

    await eventually_async(asked_again, what="the command asks from its offset")
    await container.write("stdout", 7, b"after")
    await container.end(5, 12)
    code, out, _ = await _finish(process)
    assert (code, out) == (5, b"after")


async def test_detached_run_prints_the_id_that_was_asked_for(desk: Desk, container: Container) -> None:
    """`-d` prints the id once the container runs; the request id is the id."""
    process = desk.start("run", "-d", "img")
    await container.started.wait()
    assert container.body["wait"] is False
    await container.runtime.say(container.inbox, "done", _status(container.body, "running"))
    code, out, _ = await _finish(process)
    assert (code, out.decode().strip()) == (0, container.body["id"])
    assert container.runtime.requests[0][2]["hythe-request-id"] == container.body["id"]


async def test_end_that_nobody_learnt_is_not_success(desk: Desk, container: Container) -> None:
    """An unknown exit code is 125 with the reason, never 0."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.end(None, reason="monitor lost")
    code, _, err = await _finish(process)
    assert (code, b"monitor lost" in err) == (125, True)


async def test_output_that_the_caller_closed_goes_nowhere_and_the_code_stays(desk: Desk, container: Container) -> None:
    """With stdout closed the output never lands in a descriptor that happens to have its number, such as the bus."""
    program = Path(sys.executable).parent / "hythe"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {program} run img >&- 2>&-"), env=desk.environment, stdin=subprocess.DEVNULL
    )
    await container.started.wait()
    await container.write("stdout", 0, b"PUB > 0\r\n\r\n")
    await container.end(6, 11)
    assert await asyncio.wait_for(process.wait(), 20) == 6


async def test_lost_part_of_the_output_is_said(desk: Desk, container: Container) -> None:
    """An explicit gap is a warning; the exit code stays the container's."""
    process = desk.start("run", "img")
    await container.started.wait()
    await container.end(0, gap="100 bytes of stdout")
    code, _, err = await _finish(process)
    assert (code, b"100 bytes of stdout" in err) == (0, True)


@pytest.mark.parametrize(("details", "code"), [({"exit_code": "127"}, 127), ({"exit_code": "126"}, 126), ({}, 125)])
async def test_failed_run_ends_with_the_code_for_its_reason(desk: Desk, details: dict[str, str], code: int) -> None:
    """126, 127 and 125 as everywhere, with the error in full on stderr."""

    async def refuse(message: Msg, service: Responder) -> None:
        await service.refuse(message.reply, code="FailedPrecondition", message="start c", cause="no such file",
                             phase="runc create", host="h1.lab", outcome="not started", details=details)  # fmt: skip

    await desk.serve("runtime", refuse)
    found, out, err = await desk.run("run", "img", "x")
    assert (found, out) == (code, "")
    assert 'error: start c (on h1.lab, in phase "runc create", after ' in err
    assert "  cause: no such file\n" in err
    assert "  tried: once; outcome known: not started\n" in err
    assert "(hythe trace show " in err


async def test_fetching_is_shown_line_by_line_before_the_container_runs(desk: Desk, container: Container) -> None:
    """A cold run says on stderr what it fetches; stdout is the container's alone."""
    container.start_at_once = False
    process = desk.start("run", "img")
    await container.started.wait()
    for state in ("fetching", "verifying", "unpacked"):
        layer = {"layer_digest": "sha256:" + "ab" * 32, "layer_state": state, "done_bytes": 1, "total_bytes": 2000}
        await container.runtime.say(container.inbox, "progress", {"status": None, **layer})
    await container.start()
    await container.write("stdout", 0, b"hello")
    await container.end(0, 5)
    code, out, err = await _finish(process)
    assert (code, out) == (0, b"hello")
    assert err.decode().splitlines() == [
        *("abababababab: Fetching 2.0 kB", "abababababab: Verifying 2.0 kB", "abababababab: Unpacked 2.0 kB")
    ]


async def test_full_disk_under_the_output_is_an_error_of_ours(desk: Desk, container: Container) -> None:
    """When stdout cannot be written the exit code is 125, although the container succeeded."""
    process = desk.start("run", "img", stdout="/dev/full")
    await container.started.wait()
    await container.write("stdout", 0, b"x")

    async def asked() -> bool:
        return bool(container.asked)

    await eventually_async(asked, what="the container is asked to stop")
    await container.end(0, 1)
    code, _, err = await _finish(process)
    assert (code, b"No space left on device" in err) == (125, True)
