"""Sending what exists only once: in order, within the credit, again after a gap, and never more kept than was granted."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import Conflict, DeadlineExceeded, Unavailable
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.outputs import Outputs
from hythe_runtime.agent.sending import CHUNK_BYTES, Sending
from hythe_runtime.agent.stdio import Channel
from tests.fakes.agent_bus import FakeTransport
from tests.fixtures.waiting import until


class Receiver:
    """Reads what `Sending` sends; forgets the chunks whose numbers are in `lost`."""

    def __init__(self, data: bytes, credit_bytes: int, lost: frozenset[int] = frozenset()) -> None:
        self.data = bytearray()
        self.lost = lost
        self.messages = 0
        self.connected = True
        self.most_ahead = 0
        self._left = memoryview(data)
        self._window = credit_bytes
        self.sending = Sending(self, Channel("ns", "c", credit_bytes), self._read)

    async def _read(self, most: int) -> bytes:
        piece, self._left = bytes(self._left[:most]), self._left[most:]
        return piece

    async def send(self, namespace: str, channel: str, stream: str, offset: int, data: bytes) -> None:
        if not self.connected:
            raise Unavailable("away")
        self.messages += 1
        if self.messages in self.lost:
            return
        if offset > len(self.data):
            self.take(resend=True)
            return
        self.data += data[len(self.data) - offset :]
        self.most_ahead = max(self.most_ahead, self.sending.offset - len(self.data))
        self.take()

    def take(self, *, resend: bool = False) -> None:
        """Give credit behind all that has come."""
        have = len(self.data)
        self.sending.credit("stdout", have, have + self._window, resend=resend)

    async def grant(self, namespace: str, channel: str, have: int, until: int, *, resend: bool) -> None:
        raise AssertionError("nothing is taken in")

    async def end(self, namespace: str, channel: str, end: Exit, stdout: int, stderr: int, gap: str) -> None:
        raise AssertionError("the operation's result is the end")


@given(size=st.integers(0, 3_000_000), lost=st.frozensets(st.integers(1, 12), max_size=4))
def test_every_byte_arrives_although_messages_are_lost(size: int, lost: frozenset[int]) -> None:
    """A receiver that misses chunks and asks for them again has the whole stream in the end."""
    data = bytes(range(256)) * (size // 256 + 1)

    async def copy() -> None:
        receiver = Receiver(data[:size], 700_000, lost)
        for phase in (receiver.sending.run(), receiver.sending.linger()):
            work = asyncio.ensure_future(phase)
            while not work.done():
                await asyncio.sleep(0)
                receiver.take(resend=True)  # as a client does when it knows of something missing
            await work
        assert bytes(receiver.data) == data[:size]
        assert receiver.sending.offset == size

    asyncio.run(copy())


async def test_nothing_is_sent_beyond_the_credit() -> None:
    """A receiver that takes nothing stops the sender at its credit."""
    transport = FakeTransport()
    left = [bytes(CHUNK_BYTES)] * 20

    async def read(most: int) -> bytes:
        return left.pop()[:most] if left else b""

    sending = Sending(transport, Channel("ns", "c", 600_000), read)
    work = asyncio.ensure_future(sending.run())
    await until(lambda: len(transport.channel("c").streams["stdout"]) == 600_000)
    assert not work.done()
    sending.credit("stderr", 0, 10**9, resend=False)
    sending.credit("stdout", 600_000, 600_000, resend=False)
    await asyncio.sleep(0)
    assert len(transport.channel("c").streams["stdout"]) == 600_000
    work.cancel()


async def test_bus_that_is_away_delays_and_loses_nothing() -> None:
    """While the bus is away nothing is read further than was granted, and all of it is sent when the bus is back."""
    receiver = Receiver(bytes(1_000_000), 600_000)
    receiver.connected = False
    work = asyncio.ensure_future(receiver.sending.run())
    await until(lambda: receiver.sending.offset > 0)
    receiver.connected = True
    receiver.sending.bus_is_back()
    await work
    assert bytes(receiver.data) == bytes(1_000_000)


async def test_receiver_that_takes_nothing_for_long_is_left() -> None:
    """Who gives no credit for minutes holds no worker for ever."""

    async def read(most: int) -> bytes:
        return bytes(most)

    sending = Sending(FakeTransport(), Channel("ns", "c", 0), read, give_up_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await sending.run()


async def test_channel_has_one_sender() -> None:
    """A second copy over a channel in use is refused, and the channel is free again afterwards."""
    outputs = Outputs(FakeTransport(), None)  # type: ignore[arg-type]  # watches no file
    sending = Receiver(b"", 0).sending
    channel = Channel("ns", "c", 0)
    outputs.enter(channel, sending)
    with pytest.raises(Conflict):
        outputs.enter(channel, sending)
    outputs.leave(channel)
    outputs.enter(channel, sending)
