"""Fixtures of the agent's integration tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fixtures.agents import busybox_base, lab
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.agent.host import AgentHost

__all__ = ["busybox_base", "host", "lab"]


@pytest.fixture
async def host(start_nats: Callable[[str], NatsServer], busybox_base: Path) -> AsyncIterator[AgentHost]:
    """A host with a bus and a bundle service; its agent is not started yet."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-host-"))
    made = AgentHost(directory, SecuredBus(directory, start_nats), busybox_base)
    try:
        await made.open()
        yield made
        await made.close()
        assert made.left_behind() == []
    finally:
        made.kill_everything()
