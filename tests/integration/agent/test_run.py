"""A container's life on one host, with real runc and conmon."""

from __future__ import annotations

import asyncio

import pytest

from hythe.errors import Conflict, FailedPrecondition, Unavailable
from hythe.identifiers import new_id
from hythe_runtime.agent.stdio import Channel
from tests.fixtures.agents import NAMESPACE, AgentLab


def channel() -> Channel:
    return Channel(NAMESPACE, new_id(), 1 << 20)


async def test_command_that_prints_and_exits_gives_its_output_and_code(lab: AgentLab) -> None:
    """Everything that a command prints arrives, stdout and stderr apart, and its exit code with the final offsets."""
    over = channel()
    status = await lab.run("sh", "-c", "echo out; echo err >&2; exit 7", channel=over)
    received = lab.transport.channel(over.id)
    async with asyncio.timeout(10):
        while received.end is None:
            lab.transport.news.clear()
            await lab.transport.news.wait()
    assert status.record.state == "exited"
    assert status.record.exit is not None and status.record.exit.code == 7
    assert received.streams["stdout"] == b"out\n"
    assert received.streams["stderr"] == b"err\n"
    assert (received.end[0].code, *received.end[1:]) == (7, 4, 4, "")
