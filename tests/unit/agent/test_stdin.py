"""Standard input: in order, within the credit, complete after a gap, ended once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hythe.errors import Unavailable
from hythe_runtime.agent.stdin import WINDOW_BYTES, Inputs
from tests.fakes.agent_bus import FakeTransport
from tests.fixtures.waiting import eventually_async


class FakeAttachment:
    """A container's standard input that reads when `reading` is set."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.gone = False
        self.reading = asyncio.Event()
        self.reading.set()

    async def write(self, data: bytes) -> None:
        await self.reading.wait()
        if self.gone:
            raise Unavailable("gone")
        self.data += data

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.gone = True


class Typing:
    """A client that types into a container."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.attachment = FakeAttachment()
        self.inputs = Inputs(self.transport)

    async def open(self) -> None:
        self.inputs.open("ns", "ch", self.attachment)
        await self.until(lambda: self.grants)

    def send(self, offset: int, data: bytes) -> None:
        self.inputs.take("ns", "ch", offset, data)

    @property
    def grants(self) -> list[tuple[int, int, bool]]:
        return self.transport.channel("ch").grants

    async def until(self, wanted: Callable[[], object]) -> None:
        async def met() -> bool:
            return bool(wanted())

        await eventually_async(met, 5)


async def test_input_arrives_in_order_and_ends_after_the_last_byte() -> None:
    """What is typed is what the container reads, and the end comes after it."""
    typing = Typing()
    await typing.open()
    assert typing.grants == [(0, WINDOW_BYTES, False)]
    typing.send(0, b"ab")
    typing.send(2, b"cd")
    typing.send(4, b"")
    await typing.until(lambda: typing.attachment.ended)
    assert typing.attachment.data == b"abcd"


async def test_repeated_bytes_are_taken_once() -> None:
    """A client that goes on from too early does no harm."""
    typing = Typing()
    await typing.open()
    typing.send(0, b"abcd")
    typing.send(2, b"cdef")
    typing.send(0, b"ab")
    typing.send(6, b"")
    await typing.until(lambda: typing.attachment.ended)
    assert typing.attachment.data == b"abcdef"


async def test_gap_is_asked_for_again_and_the_end_waits_for_it() -> None:
    """A lost chunk is neither left out nor ended before."""
    typing = Typing()
    await typing.open()
    typing.send(2, b"cd")
    typing.send(4, b"")
    await typing.until(lambda: typing.grants[-1][2])
    assert typing.grants[-1][:2] == (0, WINDOW_BYTES)
    assert not typing.attachment.ended
    typing.send(0, b"abcd")
    typing.send(4, b"")
    await typing.until(lambda: typing.attachment.ended)
    assert typing.attachment.data == b"abcd"


async def test_container_that_does_not_read_holds_the_client_back() -> None:
    """No more is taken than credit was given for, and more credit comes when the container reads."""
    typing = Typing()
    await typing.open()
    typing.attachment.reading.clear()
    for start in range(0, WINDOW_BYTES, 1024):
        typing.send(start, bytes(1024))
    typing.send(WINDOW_BYTES, b"too much")
    await typing.until(lambda: typing.inputs._pumps)
    assert typing.grants == [(0, WINDOW_BYTES, False)]
    typing.attachment.reading.set()
    await typing.until(lambda: len(typing.attachment.data) == WINDOW_BYTES)
    await typing.until(lambda: typing.grants[-1][1] == 2 * WINDOW_BYTES)


async def test_after_the_bus_was_away_the_client_is_asked_to_go_on() -> None:
    """What was lost with the connection is asked for, the end too."""
    typing = Typing()
    await typing.open()
    typing.send(0, b"ab")
    await typing.until(lambda: typing.attachment.data == b"ab")
    typing.inputs.bus_is_back()
    await typing.until(lambda: typing.grants[-1][2])
    assert typing.grants[-1][0] == 2
    await typing.inputs.close()


async def test_container_that_ended_takes_no_more_input() -> None:
    """Typing into a container that is gone is harmless."""
    typing = Typing()
    await typing.open()
    typing.attachment.gone = True
    typing.send(0, b"ab")
    await typing.until(lambda: not typing.inputs._pumps)
    typing.send(2, b"cd")
