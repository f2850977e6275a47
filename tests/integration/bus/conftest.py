"""A secured bus and whoever is on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer


@pytest.fixture
async def peers(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Peers]:
    """A bus with the keys of a stack, and nobody on it yet."""
    made = Peers(tmp_path, SecuredBus(tmp_path, start_nats))
    yield made
    await made.close()
