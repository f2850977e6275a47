"""Output over an io channel: within credit, exact after gaps, never waiting for ever, with the end last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe.errors import NotFound
from hythe_runtime.agent import stdio
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.stdio import Channel, View
from tests.fakes.agent_bus import FakeTransport, ReceivedChannel
from tests.fixtures.waiting import eventually_async

TIME = b"2026-11-23T20:41:22.284274031+00:00"


class Watches:
    """Calls back when the test says that the log has grown."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def watch(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


class Sending:
    """One log being sent to one receiver."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.transport = FakeTransport()
        self.watches = Watches()
        self.outputs = Outputs(self.transport, self.watches)
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def open(self, credit: int = 1 << 20, view: View | None = None) -> None:
        await self.outputs.open(Channel("ns", "ch", credit), self.path, view or View(), self.exit)

    def write(self, stream: str, data: bytes) -> None:
        with self.path.open("ab") as file:
            for line in data.splitlines(keepends=True):
                flag = b"F" if line.endswith(b"\n") else b"P"
                file.write(b"%s %s %s %s\n" % (TIME, stream.encode(), flag, line.removesuffix(b"\n")))
        for callback in self.watches.callbacks:
            callback()

    def credit(self, stream: str, have: int, until: int, *, resend: bool = False) -> None:
        self.outputs.credit("ns", "ch", stream, have, until, resend=resend)

    @property
    def received(self) -> ReceivedChannel:
        return self.transport.channel("ch")

    async def until(self, wanted: Callable[[], object]) -> None:
        async def met() -> bool:
            return bool(wanted())

        await eventually_async(met, 5)


@pytest.fixture
async def sending(tmp_path: Path) -> AsyncIterator[Sending]:
    """A log, not yet sent."""
    made = Sending(tmp_path / "1.log")
    yield made
    await made.outputs.close()
    assert made.outputs.count == 0
    assert made.watches.callbacks == []


async def test_output_is_followed_and_the_end_comes_last(sending: Sending) -> None:
    """What is written later is sent later, and the end has the exit code and both final offsets."""
    await sending.open()
    sending.write("stdout", b"one\n")
    await sending.until(lambda: sending.received.streams["stdout"] == b"one\n")
    sending.write("stderr", b"two")
    sending.write("stdout", b"three")
    sending.exit.set_result(Exit(3))
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams == {"stdout": b"one\nthree", "stderr": b"two"}
    assert sending.received.end == (Exit(3), 9, 3, "")


async def test_not_a_byte_is_sent_beyond_the_credit(sending: Sending) -> None:
    """A slow receiver is never sent more than it asked for, and the other stream goes on."""
    await sending.open(credit=10)
    sending.write("stdout", b"x" * 25)
    sending.write("stderr", b"err")
    sending.exit.set_result(Exit(0))
    await sending.until(lambda: sending.received.streams["stderr"] == b"err")
    assert sending.received.streams["stdout"] == b"x" * 10
    assert sending.received.end is None
    sending.credit("stdout", 10, 20)
    await sending.until(lambda: len(sending.received.streams["stdout"]) == 20)
    assert sending.received.end is None
    sending.credit("stdout", 20, 30)
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"x" * 25


async def test_lost_chunk_is_sent_again_on_request(sending: Sending) -> None:
    """A receiver that saw a gap gets the stream from where it was."""
    sending.transport.lose = 1
    await sending.open()
    sending.write("stdout", b"a" * 100)
    await sending.until(lambda: sending.transport.lose == 0)
    sending.write("stdout", b"b" * 100)
    await sending.until(lambda: sending.received.gaps == 1)
    sending.credit("stdout", 0, 1 << 20, resend=True)
    sending.exit.set_result(Exit(0))
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"a" * 100 + b"b" * 100


async def test_receiver_that_missed_the_end_gets_it_again(sending: Sending) -> None:
    """Bytes that are asked for after the end are sent again, and the end after them."""
    sending.transport.lose = 1
    await sending.open()
    sending.write("stdout", b"abc")
    sending.exit.set_result(Exit(0))
    await sending.until(lambda: sending.received.end)
    sending.received.end = None
    assert sending.received.streams["stdout"] == b""
    sending.credit("stdout", 0, 1 << 20, resend=True)
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"abc"
    sending.credit("stdout", 3, 1 << 20)
    await sending.until(lambda: sending.outputs.count == 0)


async def test_output_goes_on_after_the_bus_was_away(sending: Sending) -> None:
    """What could not be sent while the bus was away is sent when it is back, once."""
    sending.transport.connected = False
    await sending.open()
    sending.write("stdout", b"abc")
    sending.exit.set_result(Exit(0))
    sending.transport.connected = True
    sending.outputs.bus_is_back()
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"abc"
    assert sending.received.gaps == 0


async def test_receiver_that_gives_no_credit_is_left(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that vanished holds nothing for ever."""
    monkeypatch.setattr(stdio, "GIVE_UP_S", 0.05)
    await sending.open(credit=1)
    sending.write("stdout", b"abc")
    await sending.until(lambda: sending.outputs.count == 0)
    assert sending.received.end is None


async def test_container_that_never_began_has_no_end(sending: Sending) -> None:
    """The failure is the answer to the request; the channel just closes."""
    await sending.open()
    sending.exit.cancel()
    await sending.until(lambda: sending.outputs.count == 0)
    assert sending.received.end is None


async def test_log_that_is_deleted_is_sent_to_its_end(sending: Sending) -> None:
    """Removing a container does not cut off a client that still reads."""
    await sending.open(credit=2)
    sending.write("stdout", b"abcdef")
    sending.path.unlink()
    sending.exit.set_result(Exit(0))
    sending.credit("stdout", 0, 100)
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"abcdef"


async def test_not_following_ends_at_once(sending: Sending) -> None:
    """A log that is only shown ends where it is now, though the container runs on."""
    sending.write("stdout", b"one\ntwo\nthree\n")
    await sending.open(view=View(follow=False, tail_lines=2))
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"two\nthree\n"
    assert sending.received.end == (Exit(None), 10, 0, "")


async def test_one_channel_is_opened_once(sending: Sending) -> None:
    """A repeated request does not send the output twice."""
    await sending.open()
    await sending.open()
    sending.write("stdout", b"x")
    sending.exit.set_result(Exit(0))
    await sending.until(lambda: sending.received.end)
    assert sending.received.streams["stdout"] == b"x"


async def test_missing_log_is_not_found(sending: Sending) -> None:
    """A container without a log is a clear error."""
    sending.path.unlink()
    with pytest.raises(NotFound):
        await sending.open()
