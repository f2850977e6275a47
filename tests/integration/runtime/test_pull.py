"""`image.pull` through the real runtime: fetch and unpack at once, and the first error ends both."""

from __future__ import annotations

import asyncio

import pytest

from hythe.errors import DataLoss, ResourceExhausted
from hythe.wire.distribution import ImagePulled, PullProgress
from hythe.wire.runtime import Pull
from tests.fakes.services import DIGEST, LAYER
from tests.fixtures.waiting import until
from tests.integration.runtime.conftest import Lab


async def pull(lab: Lab, seen: list[PullProgress] | None = None, **changes: object) -> ImagePulled:
    """Pull an image as the command line does."""
    request = Pull.model_validate({"reference": "busybox", **changes})
    async with lab.user.operate(lab.subject("image", "pull"), request, PullProgress, ImagePulled) as operation:
        async for progress in operation:
            if seen is not None:
                seen.append(progress)
        return operation.result


async def test_unpacking_begins_before_the_fetch_has_ended(lab: Lab) -> None:
    """As soon as the image is resolved the host unpacks, layer by layer as they come."""
    lab.distribution.before_end.clear()
    seen: list[PullProgress] = []
    pulling = asyncio.create_task(pull(lab, seen))
    await until(lambda: "bundle.image.unpack" in lab.calls.made, what="the host unpacks")
    lab.distribution.before_end.set()
    result = await pulling
    assert result.image.target.digest == DIGEST
    assert sum(progress.resolved is not None for progress in seen) == 1
    states = [(p.layer.digest, p.layer.state) for p in seen if p.layer is not None]
    assert sorted(states) == [(LAYER, "fetching"), (LAYER, "unpacking")]


async def test_pull_without_unpacking_asks_no_host(lab: Lab) -> None:
    """With --no-unpack only content and name are wanted."""
    await pull(lab, unpack=False)
    assert lab.calls.made == ["distribution.image.pull"]


async def test_failed_unpacking_ends_the_fetch_at_once(lab: Lab) -> None:
    """A full disk need not be found out again after the whole download."""
    lab.distribution.before_end.clear()
    lab.bundle.error = ResourceExhausted("unpack: the disk is full")
    with pytest.raises(ResourceExhausted, match="the disk is full"):
        await asyncio.wait_for(pull(lab), 3)
    await until(lambda: lab.distribution.cancelled == 1, what="the fetch is given up")


async def test_failed_fetch_ends_the_unpacking_at_once(lab: Lab) -> None:
    """The error is the fetch's own."""
    lab.bundle.gate.clear()
    lab.distribution.error = DataLoss("fetch layer: wrong digest")
    with pytest.raises(DataLoss, match="wrong digest"):
        await asyncio.wait_for(pull(lab), 3)
    await until(lambda: lab.bundle.cancelled == 1, what="the unpacking is given up")


async def test_interrupted_pull_ends_fetch_and_unpacking(lab: Lab) -> None:
    """A killed `hythe pull` leaves nobody at work."""
    lab.distribution.before_end.clear()
    lab.bundle.gate.clear()
    pulling = asyncio.create_task(pull(lab))
    await until(lambda: "bundle.image.unpack" in lab.calls.made, what="both are at work")
    await lab.user.close()
    await until(lambda: (lab.distribution.cancelled, lab.bundle.cancelled) == (1, 1), what="both are given up")
    pulling.cancel()


async def test_wishes_of_a_pull_reach_distribution(lab: Lab) -> None:
    """All platforms, foreign layers and referrers are asked for as the user said, and none of them by default."""
    await pull(lab, unpack=False)
    await pull(lab, unpack=False, all_platforms=True, foreign_layers="fetch", referrers=True)
    orders = [(order.all_platforms, order.foreign_layers, order.referrers) for order in lab.distribution.orders]
    assert orders == [(False, "refuse", False), (True, "fetch", True)]


async def test_one_of_all_platforms_is_unpacked(lab: Lab) -> None:
    """Of all platforms that one is unpacked which was asked for, else the one that distribution chose."""
    lab.distribution.platform = "linux/riscv64"
    await pull(lab)
    await pull(lab, all_platforms=True)
    await pull(lab, all_platforms=True, platform="linux/arm64")
    assert [order.platform for order in lab.bundle.orders] == ["", "linux/riscv64", "linux/arm64"]
