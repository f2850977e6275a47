"""The distribution process on a real bus, beside metadata, with a real registry and with one that misbehaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import parse_digest
from hythe.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from hythe.identifiers import new_id
from hythe.wire.distribution import (
    UNKNOWN_SIZE,
    ContentEnsure,
    ContentLocation,
    Descriptor,
    ImagePull,
    ImagePulled,
    LayerProgress,
    PullProgress,
)
from hythe.wire.images import ImageList, ImageRemove, ImageRemoved, ImageSummaryPage
from hythe.wire.metadata import ImageGet, ImageRecord
from hythe_distribution.adapters.directory_store import DirectoryContent
from scripts.lab.images import Blob, Image, ImageBuilder, Layer, index
from scripts.lab.registry import Registry
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually, eventually_async
from tests.integration.distribution.processes import ServiceProcess, connect

NAMESPACE = "default"


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def metadata(tmp_path: Path, secured: SecuredBus) -> Iterator[ServiceProcess]:
    """A running metadata process."""
    process = ServiceProcess("metadata", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
def distribution(tmp_path: Path, secured: SecuredBus, metadata: ServiceProcess) -> Iterator[ServiceProcess]:
    """A running distribution process beside metadata."""
    process = ServiceProcess("distribution", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
async def bus(distribution: ServiceProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the runtime service has it."""
    connected = await connect(distribution, secured, "runtime")
    yield connected
    await connected.close()


@pytest.fixture
async def bundle_bus(distribution: ServiceProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the bundle service has it."""
    connected = await connect(distribution, secured, "bundle")
    yield connected
    await connected.close()


@pytest.fixture
def content(distribution: ServiceProcess) -> DirectoryContent:
    """The content store of the distribution process, to look into."""
    return DirectoryContent(distribution.root / "content")


@pytest.fixture
def image() -> Image:
    """An image with two layers, one of 2 MB that doesn't shrink."""
    noise = os.urandom(2 << 20)
    return ImageBuilder().layer(Layer().file("a", b"small")).layer(Layer().file("b", noise), "none").build()


async def pull(bus: Bus, reference: str, **options: bool | str) -> tuple[ImagePulled, list[PullProgress]]:
    """Pull an image and return the result with all progress."""
    subject = subjects.rpc(NAMESPACE, bus.key_name, "distribution", "image", "pull")
    request = ImagePull.model_validate({"reference": reference, **options})
    async with bus.operate(subject, request, PullProgress, ImagePulled, request_id=new_id()) as operation:
        news = [progress async for progress in operation]
        return operation.result, news


async def ensure(bus: Bus, descriptor: Descriptor, reference: str) -> tuple[ContentLocation, list[LayerProgress]]:
    """Ensure a blob and return its place with all progress."""
    subject = subjects.host_rpc(NAMESPACE, HOST, "distribution", "content", "ensure")
    request = ContentEnsure(descriptor=descriptor, reference=reference)
    async with bus.operate(subject, request, LayerProgress, ContentLocation, request_id=new_id()) as operation:
        news = [progress async for progress in operation]
        return operation.result, news


async def images(bus: Bus) -> ImageSummaryPage:
    """List the images of the namespace."""
    subject = subjects.rpc(NAMESPACE, bus.key_name, "distribution", "image", "list")
    return await bus.call(subject, ImageList(), ImageSummaryPage)


async def record(bus: Bus, reference: str) -> ImageRecord:
    """Return what metadata has registered."""
    subject = subjects.rpc(NAMESPACE, bus.key_name, "metadata", "image", "get")
    return await bus.call(subject, ImageGet(reference=reference), ImageRecord)


def wire_descriptor(blob: Blob) -> Descriptor:
    """Return the descriptor of a blob as it travels."""
    return Descriptor(media_type=blob.media_type, digest=blob.digest, size_bytes=len(blob.data))


def read(location: ContentLocation) -> bytes:
    """Return the bytes that lie there."""
    return Path(location.path).read_bytes()


def assert_nothing_is_left(content: DirectoryContent) -> None:
    """Fail if a failed pull left a blob or an ingest."""
    assert list(content.walk()) == []
    assert list(content.ingests()) == []


@pytest.mark.parametrize("flavour", ["oci", "docker"])
async def test_pull_brings_an_image_from_a_real_registry(
    bus: Bus, registry: Registry, content: DirectoryContent, flavour: str
) -> None:
    """After a pull every blob is in the store as the registry has it, and metadata has the name."""
    builder = ImageBuilder("docker" if flavour == "docker" else "oci")
    made = builder.layer(Layer().file("x", os.urandom(3 << 20))).layer(Layer().directory("y")).build()
    reference = registry.push(made, f"pull-{flavour}:v1")
    pulled, news = await pull(bus, reference)
    for blob in (made.manifest, *made.blobs):
        assert b"".join(content.read(parse_digest(blob.digest))) == blob.data
    assert list(content.ingests()) == []
    assert (await record(bus, reference)).digest == made.manifest.digest
    assert pulled.fetched_bytes == sum(len(layer.data) for layer in made.layers)
    assert news[0].resolved == pulled.image
    assert [layer.digest for layer in pulled.image.layers] == [layer.digest for layer in made.layers]
    states = {
        layer.digest: [n.layer.state for n in news if n.layer and n.layer.digest == layer.digest]
        for layer in made.layers
    }
    for seen in states.values():
        assert list(dict.fromkeys(seen)) == ["waiting", "fetching", "verifying", "fetched"]


async def test_pull_takes_this_hosts_part_of_an_index(bus: Bus, registry: Registry, content: DirectoryContent) -> None:
    """Of an index from a real registry only this host's platform comes, unless another is asked for."""
    mine = ImageBuilder().layer(Layer().directory("mine")).build()
    other_name = "arm64" if mine.architecture == "amd64" else "amd64"
    other = ImageBuilder(architecture=other_name).layer(Layer().directory("other")).build()
    both = index([other, mine])
    reference = registry.push(both, "index:v1")
    pulled, _ = await pull(bus, reference)
    assert (pulled.image.target.digest, pulled.image.manifest.digest) == (both.root.digest, mine.manifest.digest)
    assert pulled.image.platform == f"linux/{mine.architecture}"
    with pytest.raises(NotFound):
        content.info(parse_digest(other.manifest.digest))
    pulled, _ = await pull(bus, reference, platform=f"linux/{other_name}")
    assert pulled.image.manifest.digest == other.manifest.digest
    with pytest.raises(NotFound) as raised:
        await pull(bus, reference, platform="linux/s390x")
    assert raised.value.details == {"kind": "platform"}


async def test_images_are_listed_with_what_is_here_of_them(
    bus: Bus, registry: Registry, content: DirectoryContent, image: Image
) -> None:
    """The list has reference, digest, platform, size, and whether all of it is here; a removed name is gone."""
    reference = registry.push(image, "listed:v1")
    assert (await images(bus)).images == []
    await pull(bus, reference)
    (listed,) = (await images(bus)).images
    assert (listed.reference, listed.digest) == (reference, image.manifest.digest)
    assert (listed.platform, listed.complete) == (f"linux/{image.architecture}", True)
    assert listed.size_bytes == sum(len(blob.data) for blob in image.blobs)
    content.delete(parse_digest(image.layers[0].digest))
    assert not (await images(bus)).images[0].complete
    subject = subjects.rpc(NAMESPACE, bus.key_name, "distribution", "image", "remove")
    await bus.call(subject, ImageRemove(image=reference), ImageRemoved)
    assert (await images(bus)).images == []
    with pytest.raises(NotFound):
        await bus.call(subject, ImageRemove(image=reference), ImageRemoved)


async def test_ensured_blob_is_a_path_to_read_at_once(bundle_bus: Bus, registry: Registry, image: Image) -> None:
    """The host's bundle service gets the path of each blob, fetched if need be; a second time it is just there."""
    reference = registry.push(image, "ensured:v1")
    for blob in (image.layers[1], image.config, image.manifest):
        for state in ("fetched", "exists"):
            location, news = await ensure(bundle_bus, wire_descriptor(blob), reference)
            assert read(location) == blob.data
            assert location.size_bytes == len(blob.data)
            assert news[-1].state == state


async def test_manifest_is_ensured_by_its_digest_alone(bundle_bus: Bus, registry: Registry, image: Image) -> None:
    """Who knows only the digest of an image's root gets its bytes."""
    reference = registry.push(image, "by-digest:v1")
    wanted = Descriptor(media_type="", digest=image.manifest.digest, size_bytes=UNKNOWN_SIZE)
    location, _ = await ensure(bundle_bus, wanted, reference)
    assert read(location) == image.manifest.data


async def test_pull_and_ensure_share_one_download(
    bus: Bus, bundle_bus: Bus, distribution: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """While an image is pulled, the bundle service waits for the same download; the registry is asked once a layer."""
    reference = fake_registry.serve(image, "shared:1")
    fake_registry.break_at("/blobs/", faults.paced(200_000, 0.02))
    pulling = asyncio.create_task(pull(bus, reference))
    locations = await asyncio.gather(
        *(ensure(bundle_bus, wire_descriptor(layer), reference) for layer in image.layers for _ in range(3))
    )
    await pulling
    for location, _ in locations:
        assert len(read(location)) == location.size_bytes
    asked = [request.path for request in fake_registry.requests if "/blobs/" in request.path]
    assert len(asked) == len(set(asked)) == 1 + len(image.layers)
    assert "hythe_fetch_joined_total" in distribution.figures()


async def test_download_that_nobody_follows_any_more_stops(
    bus: Bus, distribution: ServiceProcess, fake_registry: FakeRegistry, image: Image, content: DirectoryContent
) -> None:
    """When the only follower of a pull goes away, its downloads end and no name is registered."""
    reference = fake_registry.serve(image, "left:1")
    fake_registry.break_at(image.layers[1].digest, faults.paced(100_000, 0.5))
    subject = subjects.rpc(NAMESPACE, bus.key_name, "distribution", "image", "pull")
    async with bus.operate(
        subject, ImagePull(reference=reference), PullProgress, ImagePulled, request_id=new_id()
    ) as operation:
        async for news in operation:
            if news.layer and news.layer.digest == image.layers[1].digest and news.layer.done_bytes:
                break

    async def stopped() -> bool:
        return "hythe_fetches_in_flight 0.0" in await asyncio.to_thread(distribution.figures)

    await eventually_async(stopped, what="no download is in progress")
    assert 'hythe_fetch_seconds_count{outcome="cancelled"} 1.0' in distribution.figures()
    with pytest.raises(NotFound):
        content.info(parse_digest(image.layers[1].digest))
    with pytest.raises(NotFound):
        await record(bus, reference)


async def test_unknown_image_is_not_found_with_the_registrys_text(bus: Bus, registry: Registry) -> None:
    """A real registry's own word is the cause, and nothing is left behind."""
    reference = f"{registry.address}/nowhere:v1"
    with pytest.raises(NotFound) as raised:
        await pull(bus, reference)
    assert raised.value.details == {"kind": "image"}
    assert "MANIFEST_UNKNOWN" in raised.value.cause or "NAME_UNKNOWN" in raised.value.cause
    assert reference in raised.value.message
    assert raised.value.next_step


async def test_unreachable_registry_is_unavailable_with_its_address(bus: Bus, content: DirectoryContent) -> None:
    """The error names the registry, the cause and what to check."""
    with pytest.raises(Unavailable) as raised:
        await pull(bus, "127.0.0.1:1/app:v1")
    assert "127.0.0.1:1" in raised.value.message
    assert raised.value.cause == "Connection refused"
    assert "check" in raised.value.next_step
    assert raised.value.service == ""
    assert_nothing_is_left(content)


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
async def test_registry_that_lies_about_a_digest_leaves_no_trace_of_the_lie(
    bus: Bus, fake_registry: FakeRegistry, content: DirectoryContent, image: Image, which: str
) -> None:
    """Changed bytes anywhere fail the pull with DataLoss; no name is registered, and the changed bytes are nowhere."""
    reference = fake_registry.serve(image, "lie:1")
    lied = {"manifest": image.manifest, "config": image.config, "layer": image.layers[1]}[which]
    fake_registry.break_at("/manifests/" if which == "manifest" else lied.digest, faults.other_bytes())
    with pytest.raises(DataLoss) as raised:
        await pull(bus, reference)
    assert lied.digest in raised.value.message
    with pytest.raises(NotFound):
        content.info(parse_digest(lied.digest))
    assert not any(lied.digest in status.reference for status in content.ingests())
    assert (await images(bus)).images == []
    fake_registry.mend()
    await pull(bus, reference)
    assert (await images(bus)).images[0].complete


async def test_document_that_is_both_index_and_manifest_is_refused(
    bus: Bus, fake_registry: FakeRegistry, content: DirectoryContent, image: Image
) -> None:
    """An ambiguous manifest is InvalidArgument and leaves nothing behind."""
    fake_registry.serve(image, "both:1")
    reference = fake_registry.serve_manifest(faults.both_manifest_and_index(image), "both:1")
    with pytest.raises(InvalidArgument) as raised:
        await pull(bus, reference)
    assert "both" in raised.value.message
    assert_nothing_is_left(content)


async def test_broken_reference_is_refused(bus: Bus) -> None:
    """A reference that is none is refused before anybody is asked."""
    with pytest.raises(InvalidArgument):
        await pull(bus, "Not A Reference")
    with pytest.raises(InvalidArgument):
        await pull(bus, "127.0.0.1:1/app", platform="amd64")


async def test_pull_without_metadata_names_metadata(
    bus: Bus, metadata: ServiceProcess, fake_registry: FakeRegistry, content: DirectoryContent, image: Image
) -> None:
    """With metadata stopped, a pull fails at once, naming it, and the registry isn't asked."""
    reference = fake_registry.serve(image, "app:1")
    metadata.end()
    with pytest.raises(Unavailable) as raised:
        await asyncio.wait_for(pull(bus, reference), 2)
    assert raised.value.service == "metadata"
    assert fake_registry.requests == []
    assert_nothing_is_left(content)


async def test_ensure_works_without_metadata(
    bundle_bus: Bus, metadata: ServiceProcess, registry: Registry, image: Image
) -> None:
    """A blob whose image is known already can be fetched while metadata is away."""
    reference = registry.push(image, "no-metadata:v1")
    metadata.end()
    location, _ = await ensure(bundle_bus, wire_descriptor(image.layers[0]), reference)
    assert read(location) == image.layers[0].data


@pytest.fixture
def small_distribution(
    tmp_path: Path, secured: SecuredBus, metadata: ServiceProcess, small_disk: Callable[[int], Path]
) -> Iterator[ServiceProcess]:
    """A distribution process whose root lies on a disk of 16 MiB, of which it leaves 1 MiB free."""
    root = small_disk(16)
    shutil.copytree(secured.keys, root / "keys")
    process = ServiceProcess("distribution", tmp_path, secured, root, HYTHE_DISK_RESERVE=str(1 << 20))
    process.start()
    yield process
    process.end()


async def test_full_disk_is_said_before_the_first_layer(
    small_distribution: ServiceProcess, secured: SecuredBus, registry: Registry
) -> None:
    """An image that has no room is refused with figures, and leaves nothing but its documents."""
    big = ImageBuilder().layer(Layer().file("big", os.urandom(20 << 20)), "none").build()
    reference = registry.push(big, "big:v1")
    bus = await connect(small_distribution, secured, "runtime")
    with pytest.raises(ResourceExhausted) as raised:
        await pull(bus, reference)
    assert raised.value.details == {"kind": "disk"}
    assert "reserve" in raised.value.message
    content = DirectoryContent(small_distribution.root / "content")
    assert list(content.ingests()) == []
    assert {str(info.digest) for info in content.walk()} == {big.manifest.digest, big.config.digest}
    assert (await images(bus)).images == []
    await bus.close()


async def test_disk_that_fills_up_in_mid_pull_gives_its_room_back(
    small_distribution: ServiceProcess, secured: SecuredBus, fake_registry: FakeRegistry
) -> None:
    """When others fill the disk meanwhile, the pull fails as ResourceExhausted, and what had come is removed."""
    image = ImageBuilder().layer(Layer().file("x", os.urandom(6 << 20)), "none").build()
    reference = fake_registry.serve(image, "filled:1")
    fake_registry.break_at(image.layers[0].digest, faults.paced(1 << 20, 0.1))
    content = DirectoryContent(small_distribution.root / "content")
    bus = await connect(small_distribution, secured, "runtime")
    pulling = asyncio.create_task(pull(bus, reference))
    await asyncio.to_thread(
        eventually,
        lambda: any(each.reference.startswith("layer-") for each in content.ingests()),
        what="the layer comes",
    )
    filler = small_distribution.root / "filler"
    with filler.open("wb") as file, pytest.raises(OSError):
        while True:
            os.write(file.fileno(), bytes(1 << 20))
    with pytest.raises(ResourceExhausted) as raised:
        await pulling
    assert "No space left" in raised.value.cause
    assert list(content.ingests()) == []
    filler.unlink()
    await pull(bus, reference)
    await bus.close()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Lay a read-only view of a directory over itself while the block runs."""
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


async def test_read_only_content_is_failed_precondition(
    small_distribution: ServiceProcess, secured: SecuredBus, registry: Registry, image: Image
) -> None:
    """A root that cannot be written is named, with what to do."""
    reference = registry.push(image, "read-only:v1")
    bus = await connect(small_distribution, secured, "runtime")
    content = small_distribution.root / "content"
    with read_only(content), pytest.raises(FailedPrecondition) as raised:
        await pull(bus, reference)
    assert str(content) in raised.value.message
    assert "Read-only" in raised.value.cause
    assert "writable" in raised.value.next_step
    await bus.close()


@pytest.mark.parametrize(
    "failpoint",
    [
        "distribution.commit.synced=kill",
        "distribution.commit.renamed=1*off->kill",
        "distribution.commit.synced=3*off->kill",
    ],
)
async def test_process_killed_in_the_middle_of_a_commit_leaves_no_half_blob(
    tmp_path: Path, secured: SecuredBus, metadata: ServiceProcess, registry: Registry, image: Image, failpoint: str
) -> None:
    """After ``kill -9`` at any step of a commit each blob is whole or absent, and the next pull works."""
    reference = registry.push(image, "killed:v1")
    dying = ServiceProcess("distribution", tmp_path, secured, HYTHE_FAILPOINTS=failpoint)
    dying.start()
    bus = await connect(dying, secured, "runtime")
    with pytest.raises(Unavailable):
        await pull(bus, reference)
    assert dying.end() == -signal.SIGKILL
    content = DirectoryContent(tmp_path / "content")
    blobs = {blob.digest: blob.data for blob in (image.manifest, *image.blobs)}
    for info in content.walk():
        assert b"".join(content.read(info.digest)) == blobs[str(info.digest)]
    healed = ServiceProcess("distribution", tmp_path, secured)
    healed.start()
    await pull(bus, reference)
    assert (await images(bus)).images[0].complete
    assert list(content.ingests()) == []
    await bus.close()
    assert healed.end() == 0


async def test_stopped_process_keeps_what_it_had_fetched(
    tmp_path: Path, bus: Bus, distribution: ServiceProcess, fake_registry: FakeRegistry, image: Image
) -> None:
    """SIGTERM in mid-pull ends the process within seconds; what came is kept to go on from."""
    reference = fake_registry.serve(image, "stopped:1")
    fake_registry.break_at(image.layers[1].digest, faults.paced(100_000, 0.3))
    content = DirectoryContent(tmp_path / "content")

    def part_of_the_layer() -> bool:
        """Other blobs of the image come and go: only the paced layer counts."""
        return any(s.offset and s.total_bytes == len(image.layers[1].data) for s in content.ingests())

    pulling = asyncio.create_task(pull(bus, reference))
    await asyncio.to_thread(eventually, part_of_the_layer, what="the layer comes")
    assert await asyncio.to_thread(distribution.end) == 0
    with pytest.raises(Unavailable):
        await pulling
    assert part_of_the_layer()
