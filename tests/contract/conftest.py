"""Fixtures of the contract suite of snapshotters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hythe.ports.snapshots import Snapshotter
from tests.fixtures.snapshots import BODIES, Body


@pytest.fixture(params=BODIES)
async def body(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Body]:
    """A fresh, empty snapshotter of each body."""
    made = Body(request.param, tmp_path / "body")
    yield made
    await made.close()


@pytest.fixture
def snapshots(body: Body) -> Snapshotter:
    """The snapshotter itself, for tests that don't restart it."""
    return body.snapshots
