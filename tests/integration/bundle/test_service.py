"""The bundle process on a real bus, with the real distribution process beside it and a registry of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import Conflict, HytheError, InvalidArgument, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.process import identify
from hythe.wire.base import Empty
from hythe.wire.bundle import BundlePrepare, BundlePrepared, BundleRelease, ImageUnpack, ImageUnpacked
from hythe.wire.container import ContainerSpec, ImageRef
from hythe.wire.distribution import LayerProgress
from scripts.lab.images import Image, ImageBuilder, Layer
from tests.fakes.registry import FakeRegistry
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually, eventually_async
from tests.integration.distribution.processes import ServiceProcess, connect


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def distribution(tmp_path: Path, secured: SecuredBus) -> Iterator[ServiceProcess]:
    """A running distribution process."""
    process = ServiceProcess("distribution", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
def bundle(tmp_path: Path, secured: SecuredBus, distribution: ServiceProcess) -> Iterator[ServiceProcess]:
    """A running bundle process beside distribution."""
    process = ServiceProcess("bundle", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
async def bus(bundle: ServiceProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the agent has it."""
    connected = await connect(bundle, secured, "agent")
    yield connected
    await connected.close()


@pytest.fixture
def image() -> Image:
    """An image with three layers."""
    builder = ImageBuilder().config(Cmd=["sh"], StopSignal="SIGQUIT")
    for layer in (
        Layer().directory("tmp", mode=0o1777),
        Layer().file("tmp/a", b"x"),
        Layer().file("b", os.urandom(99)),
    ):
        builder = builder.layer(layer)
    return builder.build()


def request(image: Image, reference: str, **spec: object) -> BundlePrepare:
    """Return a request for a bundle of a new container."""
    container_id = new_id()
    return BundlePrepare(
        id=container_id,
        name="web",
        image=ImageRef(reference=reference, digest=image.root.digest),
        spec=ContainerSpec.model_validate(spec),
        cgroup_path=f"hythe/{HOST}/ctr/default-{container_id}",
    )


async def prepare(bus: Bus, wanted: BundlePrepare) -> tuple[BundlePrepared, list[LayerProgress]]:
    """Prepare a bundle and return it with all progress."""
    subject = subjects.host_rpc("default", HOST, "bundle", "bundle", "prepare")
    async with bus.operate(subject, wanted, LayerProgress, BundlePrepared, request_id=wanted.id) as operation:
        news = [progress async for progress in operation]
        return operation.result, news


async def unpack(bus: Bus, image: Image, reference: str, platform: str = "") -> ImageUnpacked:
    """Unpack an image."""
    subject = subjects.host_rpc("default", HOST, "bundle", "image", "unpack")
    wanted = ImageUnpack(image=ImageRef(reference=reference, digest=image.root.digest), platform=platform)
    async with bus.operate(subject, wanted, LayerProgress, ImageUnpacked) as operation:
        return await operation.wait()


async def release(bus: Bus, container_id: str) -> None:
    """Release a bundle."""
    subject = subjects.host_rpc("default", HOST, "bundle", "bundle", "release")
    await bus.call(subject, BundleRelease(id=container_id), Empty)


def snapshots(bundle: ServiceProcess) -> set[str]:
    """Return the directories of the snapshots on disk."""
    return {path.name for path in (bundle.root / "bundle" / "snapshots").iterdir()}


async def has_ended(pid: int) -> bool:
    """Tell whether a process runs no more."""
    return identify(pid) is None


def is_on_disk(prepared: BundlePrepared) -> bool:
    """Tell whether a bundle is there."""
    return Path(prepared.path, "config.json").exists() and Path(prepared.rootfs).is_dir()


async def test_cold_image_is_fetched_unpacked_and_prepared(
    bus: Bus, bundle: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """One request brings an image that only the registry has to a bundle on disk, and says how it goes for each layer."""
    wanted = request(image, fake_registry.serve(image, "cold:1"), args=["echo"], labels={"a": "b"})
    prepared, news = await prepare(bus, wanted)
    assert is_on_disk(prepared)
    assert (prepared.args, prepared.stop_signal) == (["echo"], "SIGQUIT")
    assert prepared.mounts[0].type == "overlay" and prepared.mounts[0].target == ""
    for layer in image.layers:
        states = [progress.state for progress in news if progress.digest == layer.digest]
        assert "fetching" in states and states[-1] == "unpacked" and "unpacking" in states
    assert 'hythe_unpack_layer_seconds_count{outcome="ok"} 3.0' in bundle.figures()
    await release(bus, wanted.id)
    await release(bus, wanted.id)
    assert not is_on_disk(prepared)
    eventually(lambda: len(snapshots(bundle)) == 3)


async def test_warm_prepare_needs_nobody_else(
    bus: Bus, distribution: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """Once an image is unpacked, bundles of it are prepared though distribution and registry are away."""
    reference = fake_registry.serve(image, "warm:1")
    unpacked = await unpack(bus, image, reference)
    assert unpacked.unpacked_layers == 3 and unpacked.manifest_digest == image.root.digest
    distribution.end()
    assert (await unpack(bus, image, reference)).unpacked_layers == 0
    prepared, news = await prepare(bus, request(image, reference))
    assert is_on_disk(prepared) and news == []


async def test_cold_image_without_distribution_is_unavailable(
    bus: Bus, bundle: ServiceProcess, distribution: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """With distribution stopped, an image that isn't here fails at once and names what is missing."""
    distribution.end()
    with pytest.raises(Unavailable) as raised:
        await prepare(bus, request(image, fake_registry.serve(image, "away:1")))
    assert raised.value.service == "distribution" and snapshots(bundle) == set()


async def test_bad_requests_are_refused(bus: Bus, fake_registry: FakeRegistry, image: Image) -> None:
    """What can't be is said in the closed set of errors, and leaves nothing."""
    reference = fake_registry.serve(image, "bad:1")
    cases: list[tuple[BundlePrepare, type[HytheError]]] = [
        (request(image, reference).model_copy(update={"image": ImageRef(reference=reference)}), InvalidArgument),
        (request(image, reference, user="nobody"), InvalidArgument),
        (request(image, reference).model_copy(update={"cgroup_path": "../x"}), InvalidArgument),
        (request(ImageBuilder().build(), reference), NotFound),
    ]
    for wanted, error in cases:
        with pytest.raises(error):
            await prepare(bus, wanted)
    with pytest.raises(NotFound, match="linux/s390x"):
        await unpack(bus, image, reference, "linux/s390x")


async def test_repeated_request_is_answered_after_a_restart(
    bus: Bus, bundle: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """The request id is the container's: repeated after kill -9 it answers the same bundle, with another body Conflict."""
    wanted = request(image, fake_registry.serve(image, "again:1"))
    first, _ = await prepare(bus, wanted)
    bundle.end(signal.SIGKILL)
    bundle.start()
    assert (await prepare(bus, wanted))[0] == first
    with pytest.raises(Conflict):
        await prepare(bus, wanted.model_copy(update={"cgroup_path": "other"}))


@pytest.mark.parametrize(("failpoint", "kept"), [("bundle.layer.commit=kill", 0), ("bundle.prepare.recorded=kill", 3)])
async def test_killed_service_is_healed_by_its_next_start(
    tmp_path: Path,
    secured: SecuredBus,
    distribution: ServiceProcess,
    fake_registry: FakeRegistry,
    failpoint: str,
    kept: int,
) -> None:
    """kill -9 between steps leaves what is recorded and nothing half made; the same request then succeeds."""
    image = ImageBuilder().config(Cmd=["sh"]).layer(Layer().file("a")).layer(Layer().file("b")).build()
    wanted = request(image, fake_registry.serve(image, "killed:1"))
    doomed = ServiceProcess("bundle", tmp_path, secured, HYTHE_FAILPOINTS=failpoint)
    doomed.start()
    connected = await connect(doomed, secured, "agent")
    waiting = asyncio.create_task(prepare(connected, wanted))
    await eventually_async(partial(has_ended, doomed.pid))
    assert doomed.end() == -signal.SIGKILL
    waiting.cancel()
    healed = ServiceProcess("bundle", tmp_path, secured)
    healed.start()
    try:
        assert len(snapshots(healed)) == kept
        assert is_on_disk((await prepare(connected, wanted))[0]) and len(snapshots(healed)) == 3
    finally:
        await connected.close()
        healed.end()
