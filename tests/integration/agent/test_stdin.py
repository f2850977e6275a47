"""Standard input over an io channel, through conmon's attach socket."""

from __future__ import annotations

import asyncio

from hythe_runtime.agent.model import Status
from hythe_runtime.agent.stdio import Channel
from tests.fixtures.agents import NAMESPACE, AgentLab
from tests.fixtures.waiting import eventually_async


class Terminal:
    """A client that runs a container with an open standard input."""

    def __init__(self, lab: AgentLab, *args: str, credit_bytes: int = 1 << 20) -> None:
        self.lab = lab
        self.channel: Channel = lab.channel(credit_bytes)
        self.offset = 0
        self.running: asyncio.Task[Status] = asyncio.create_task(
            lab.run(*args, channel=self.channel, stdin=True, auto_remove=True)
        )

    async def type(self, data: bytes) -> None:
        """Send bytes, waiting for credit."""
        for start in range(0, len(data), 64 << 10):
            await self._send(data[start : start + (64 << 10)])

    async def _send(self, part: bytes) -> None:
        await eventually_async(lambda: self._may_send(self.offset + len(part)), 20)
        self.lab.inputs.take(NAMESPACE, self.channel.id, self.offset, part)
        self.offset += len(part)

    async def _may_send(self, until: int) -> bool:
        if self.running.done():
            self.running.result()
        grants = self.lab.transport.channel(self.channel.id).grants
        return bool(grants) and grants[-1][1] >= until

    async def end(self) -> None:
        """End the input."""
        await eventually_async(lambda: self._may_send(self.offset), 20)
        self.lab.inputs.take(NAMESPACE, self.channel.id, self.offset, b"")


async def test_typed_bytes_come_back_and_the_end_ends_the_command(lab: AgentLab) -> None:
    """`cat` gives back what it got, and ends when its input does."""
    client = Terminal(lab, "cat")
    await client.type(b"hello\n")
    await client.type(b"\x00\xff without newline")
    await client.end()
    received = await lab.received(client.channel)
    assert received.streams["stdout"] == b"hello\n\x00\xff without newline"
    status = await client.running
    assert status.record.exit is not None and status.record.exit.code == 0


async def test_two_megabytes_of_input_arrive_whole(lab: AgentLab) -> None:
    """Input much larger than every buffer on the way arrives, held back by a slow reader."""
    client = Terminal(lab, "sh", "-c", "sleep 0.3; wc -c")
    await client.type(bytes(2 << 20))
    await client.end()
    received = await lab.received(client.channel)
    assert received.streams["stdout"].strip() == b"2097152"


async def test_end_without_a_byte_ends_the_command(lab: AgentLab) -> None:
    """An empty input is an end, not a hang."""
    client = Terminal(lab, "wc", "-c")
    await client.end()
    assert (await lab.received(client.channel)).streams["stdout"].strip() == b"0"


async def test_container_with_input_is_not_blocked_by_a_client_that_never_reads(lab: AgentLab) -> None:
    """conmon's copy of the output is read by the agent whatever the client does: the container runs to its end."""
    client = Terminal(lab, "sh", "-c", "yes | head -c 8000000; cat >/dev/null", credit_bytes=0)
    await client.end()
    async with asyncio.timeout(20):
        status = await client.running
    assert status.record.exit is not None and status.record.exit.code == 0
    assert lab.transport.channel(client.channel.id).streams["stdout"] == b""
    assert len((await lab.received(client.channel)).streams["stdout"]) == 8000000


async def test_container_that_does_not_read_its_input_can_be_removed(lab: AgentLab) -> None:
    """A full pipe to a container that never reads stands in nobody's way."""
    client = Terminal(lab, "sleep", "100")
    typing = asyncio.create_task(client.type(bytes(1 << 20)))
    await eventually_async(lambda: client._may_send(0))
    record = lab.board.page("", 1).statuses[0].record
    await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=True)
    typing.cancel()
    status = await client.running
    assert status.record.exit is not None and status.record.exit.code == 137


async def test_output_still_arrives_after_the_input_ended(lab: AgentLab) -> None:
    """Ending the input ends nothing else."""
    client = Terminal(lab, "sh", "-c", "cat; sleep 0.2; echo later")
    await client.type(b"first\n")
    await client.end()
    assert (await lab.received(client.channel)).streams["stdout"] == b"first\nlater\n"
