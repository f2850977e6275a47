"""The agent registers its host without anything waiting for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hythe.errors import AlreadyExists, DataLoss, HytheError, Unavailable
from hythe.identifiers import check_id
from hythe_runtime.agent.adapters.registry import ensure_root_id, machine_id
from hythe_runtime.agent.registering import Registering
from tests.fixtures.waiting import eventually_async


class Registry:
    """A registry that answers as it is told.

    Attributes:
        answers: errors to raise, one after another; then it takes everybody.
        asked: how often it was asked.
    """

    def __init__(self, *answers: HytheError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def register(self) -> None:
        """See `hythe_runtime.agent.ports.Registry`."""
        self.asked += 1
        if self.answers:
            raise self.answers.pop(0)


async def registered(registry: Registry, times: int) -> None:
    """Wait until the registry was asked so often."""

    async def enough() -> bool:
        return registry.asked >= times

    await eventually_async(enough)


async def test_host_is_registered_at_start_and_after_each_reconnect() -> None:
    """Metadata that was replaced while the bus was away learns of the host again."""
    registry = Registry()
    registering = Registering(registry, lambda error: None)
    task = asyncio.create_task(registering.run())
    await registered(registry, 1)
    registering.bus_is_back()
    await registered(registry, 2)
    task.cancel()
    await asyncio.wait([task])
    assert registry.asked == 2


async def test_metadata_that_is_away_is_asked_again() -> None:
    """A host is registered when metadata comes, also without a word from the bus."""
    registry = Registry(Unavailable("away"))
    refused: list[HytheError] = []
    task = asyncio.create_task(Registering(registry, refused.append).run())
    await registered(registry, 2)
    task.cancel()
    await asyncio.wait([task])
    assert refused == []


async def test_refused_agent_is_told_and_asks_no_more() -> None:
    """An agent whose name another one has ends, and doesn't wait for the other to stumble."""
    error = AlreadyExists("another agent has this name")
    registry = Registry(error)
    refused: list[HytheError] = []
    registering = Registering(registry, refused.append)
    registering.bus_is_back()
    await asyncio.wait_for(registering.run(), 5)
    assert refused == [error]
    assert registry.asked == 1


def test_root_has_one_id_for_ever(tmp_path: Path) -> None:
    """The id of a root is made once, and a file that holds something else is refused rather than replaced."""
    made = ensure_root_id(tmp_path)
    assert check_id(made)
    assert ensure_root_id(tmp_path) == made
    (tmp_path / "root-id").write_text("no id")
    with pytest.raises(DataLoss):
        ensure_root_id(tmp_path)
    (tmp_path / "root-id").write_bytes(b"\xff\xfe")
    with pytest.raises(DataLoss):
        ensure_root_id(tmp_path)


def test_machine_without_an_id_has_an_empty_one(tmp_path: Path) -> None:
    """A container without ``/etc/machine-id`` can be a host, and garbage there is not passed on."""
    assert machine_id(tmp_path / "missing") == ""
    (tmp_path / "id").write_text("a" * 32 + "\n")
    assert machine_id(tmp_path / "id") == "a" * 32
    (tmp_path / "id").write_text("x" * 65)
    assert machine_id(tmp_path / "id") == ""
