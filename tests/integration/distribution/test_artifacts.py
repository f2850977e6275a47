"""``image.fetch``: artifacts of one type, brought whole and named; real processes of metadata and distribution on a real bus."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import InvalidArgument, NotFound
from hythe.wire import content
from hythe.wire.bundles import ArtifactFetch, ArtifactFetched
from hythe.wire.distribution import PullProgress
from hythe.wire.metadata import ImageGet, ImageRecord
from scripts.lab.images import OCI_MANIFEST, Blob, Image, ImageBuilder, Layer, encode
from tests.fakes.registry import FakeRegistry
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess, connect

TYPE = "application/vnd.example.thing.v1+json"


@pytest.fixture
def distribution(
    tmp_path: Path, start_nats: Callable[[str], NatsServer]
) -> Iterator[tuple[ServiceProcess, SecuredBus]]:
    """Both processes, running."""
    secured = SecuredBus(tmp_path, start_nats)
    started: list[ServiceProcess] = []
    try:
        for name in ("metadata", "distribution"):
            started.append(ServiceProcess(name, tmp_path, secured))
            started[-1].start()
        yield started[-1], secured
    finally:
        for process in reversed(started):
            process.end()


@pytest.fixture
async def bus(distribution: tuple[ServiceProcess, SecuredBus]) -> AsyncIterator[Bus]:
    """The bus as runtime has it."""
    connected = await connect(*distribution, "runtime")
    yield connected
    await connected.close()


@pytest.fixture
async def bundle(distribution: tuple[ServiceProcess, SecuredBus]) -> AsyncIterator[Bus]:
    """The bus as the bundle service has it."""
    connected = await connect(*distribution, "bundle")
    yield connected
    await connected.close()


def artifact() -> Image:
    """Return an artifact with a config and a layer of types of its own."""
    config = Blob(os.urandom(300), "application/vnd.example.config")
    layer = Blob(os.urandom(200_000), "application/vnd.example.layer")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": TYPE,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    return Image(Blob(encode(document), OCI_MANIFEST), (config, layer), "linux", "amd64")


async def fetch(bus: Bus, reference: str) -> tuple[ArtifactFetched, list[PullProgress]]:
    """Fetch an artifact and return it with all progress."""
    subject = subjects.rpc("default", bus.key_name, "distribution", "image", "fetch")
    request = ArtifactFetch(reference=reference, artifact_type=TYPE)
    async with bus.operate(subject, request, PullProgress, ArtifactFetched) as operation:
        news = [progress async for progress in operation]
        return operation.result, news


async def named(bus: Bus, reference: str) -> ImageRecord:
    """Return what metadata has under a name."""
    subject = subjects.rpc("default", bus.key_name, "metadata", "image", "get")
    return await bus.call(subject, ImageGet(reference=reference), ImageRecord)


async def test_artifact_is_brought_whole_and_named(bus: Bus, bundle: Bus, fake_registry: FakeRegistry) -> None:
    """What is no image comes with all its content, verified, under its name; a second time nothing is fetched."""
    thing = artifact()
    reference = fake_registry.serve(thing, "things/one:1")
    fetched, news = await fetch(bus, reference)
    assert fetched.target.digest == thing.root.digest and fetched.fetched_bytes == sum(len(b.data) for b in thing.blobs)
    assert {progress.layer.digest for progress in news if progress.layer} == {blob.digest for blob in thing.blobs}
    for blob in (*thing.blobs, thing.root):
        subject = subjects.host_rpc("default", HOST, "distribution", "content", "info")
        info = await bundle.call(subject, content.ContentInfoGet(digest=blob.digest), content.ContentInfo)
        assert info.size_bytes == len(blob.data)
    assert (await named(bus, reference)).digest == thing.root.digest
    again, _ = await fetch(bus, reference)
    assert again.fetched_bytes == 0


async def test_what_is_of_another_type_is_not_fetched(bus: Bus, fake_registry: FakeRegistry) -> None:
    """An image, or what isn't there, is refused before anything but its document came, and gets no name."""
    image = ImageBuilder().layer(Layer().file("a")).build()
    reference = fake_registry.serve(image, "app:1")
    with pytest.raises(InvalidArgument, match=r"not a application/vnd\.example"):
        await fetch(bus, reference)
    with pytest.raises(NotFound):
        await fetch(bus, reference.replace("app:1", "app:2"))
    with pytest.raises(NotFound):
        await bus.call(
            subjects.rpc("default", bus.key_name, "metadata", "image", "get"),
            ImageGet(reference=reference),
            ImageRecord,
        )
