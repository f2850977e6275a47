"""What several tests of the distribution service work with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.distribution.transfers import Transfers


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    """A puller, pusher and copier in memory."""
    made = Transfers()
    yield made
    await made.close()
