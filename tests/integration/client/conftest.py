"""A secured bus for tests of the command line's client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer


@pytest.fixture
def bus(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack, without services."""
    return SecuredBus(tmp_path, start_nats)
