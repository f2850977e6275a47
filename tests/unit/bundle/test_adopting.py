"""Whose turn it is with a directory that a container is run from."""

from __future__ import annotations

import asyncio

import pytest

from hythe.errors import FailedPrecondition
from hythe_bundle.adopting import Adopting


def in_the_way() -> FailedPrecondition:
    """Return what is said while a container has the directory."""
    return FailedPrecondition("run bundle: a container is made from it", details={"kind": "container"})


async def test_container_that_is_just_leaving_is_waited_for() -> None:
    """Right after `hythe bundle run --rm` has ended, the next one on the same directory is not refused."""
    adopting, tries = Adopting(grace_s=30), 0
    tried = asyncio.Event()

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            tried.set()
            raise in_the_way()
        return "taken"

    taking = asyncio.create_task(adopting.attempt(work))
    await tried.wait()
    adopting.released()
    assert await taking == "taken" and tries == 2


async def test_container_that_stays_is_named_after_a_while() -> None:
    """Who waits for a container that goes on gets its name soon, and nobody waits for any other reason."""
    adopting = Adopting(grace_s=0.01)

    async def refused() -> None:
        raise in_the_way()

    async def broken() -> None:
        raise FailedPrecondition("run bundle: it is broken")

    with pytest.raises(FailedPrecondition, match="made from it"):
        await adopting.attempt(refused)
    with pytest.raises(FailedPrecondition, match="broken"):
        await Adopting(grace_s=30).attempt(broken)
