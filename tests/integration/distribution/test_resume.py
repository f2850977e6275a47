"""The distribution process, killed at any moment of a download, goes on where it was; and it stays small."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest

import hythe_distribution.adapters
from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import parse_digest
from hythe.errors import NotFound
from hythe.identifiers import new_id
from hythe.wire.distribution import ContentEnsure, ContentLocation, Descriptor, LayerProgress
from hythe_distribution.adapters.directory_store import DirectoryContent
from scripts.lab.images import Blob, Image, ImageBuilder, Layer, digest_text
from tests.fakes.registry import Answer, FakeRegistry, Handler
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually
from tests.integration.distribution.processes import ServiceProcess, connect

CHUNK_BYTES = 50_000
MOST_MEMORY_BYTES = 150_000_000
ADAPTERS = Path(hythe_distribution.adapters.__file__).parent
FAILPOINTS = sorted(
    name
    for path in ADAPTERS.glob("directory_*.py")
    for name in re.findall(r'failpoints\.reach\("([^"]+)"\)', path.read_text())
)


class LargeBlob(Blob):
    """A blob whose digest is computed once."""

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of the bytes."""
        return digest_text(self.data)


class Served:
    """A fault that changes nothing but counts and slows down what is sent."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.count = 0
        self._pause_s = pause_s
        self._lock = threading.Lock()

    def __call__(self, handler: Handler, answer: Answer) -> None:
        """Send the answer in chunks with a pause after each."""
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        for start in range(0, len(answer.body), CHUNK_BYTES):
            chunk = answer.body[start : start + CHUNK_BYTES]
            handler.wfile.write(chunk)
            with self._lock:
                self.count += len(chunk)
            handler.server.registry.released.wait(self._pause_s)


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def image() -> Image:
    """An image with one layer of 1 MB that doesn't shrink."""
    return ImageBuilder().layer(Layer().file("a", os.urandom(1_000_000)), "none").build()


@asynccontextmanager
async def running(
    tmp_path: Path, secured: SecuredBus, failpoints: str = ""
) -> AsyncIterator[tuple[ServiceProcess, Bus]]:
    """A distribution process, and the bus as the bundle service has it."""
    process = ServiceProcess("distribution", tmp_path, secured, HYTHE_FAILPOINTS=failpoints)
    process.start()
    bus = await connect(process, secured, "bundle")
    try:
        yield process, bus
    finally:
        await bus.close()
        process.end()


async def ensure(bus: Bus, blob: Blob, reference: str) -> Path:
    """Ensure a blob and return where it lies."""
    subject = subjects.host_rpc("default", HOST, "distribution", "content", "ensure")
    descriptor = Descriptor(media_type=blob.media_type, digest=blob.digest, size_bytes=len(blob.data))
    request = ContentEnsure(descriptor=descriptor, reference=reference)
    async with bus.operate(subject, request, LayerProgress, ContentLocation, request_id=new_id()) as operation:
        async for _ in operation:
            pass
        return Path(operation.result.path)


async def given_up(asking: asyncio.Task[Path]) -> None:
    """Don't wait until the silence of a killed process is noticed."""
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_killed_process_fetches_no_byte_twice(
    tmp_path: Path, secured: SecuredBus, fake_registry: FakeRegistry, image: Image
) -> None:
    """After kill -9 in mid-download the next one asks for the rest alone: what had arrived is not fetched again."""
    layer = image.layers[0]
    reference = fake_registry.serve(image, "killed:1")
    served = Served(0.03)
    fake_registry.break_at(layer.digest, served)
    content = DirectoryContent(tmp_path / "content")
    async with running(tmp_path, secured) as (process, bus):
        asking = asyncio.create_task(ensure(bus, layer, reference))
        await asyncio.to_thread(
            eventually, lambda: any(status.offset > 300_000 for status in content.ingests()), what="a third has come"
        )
        process.end(signal.SIGKILL)
        await given_up(asking)
    [left] = content.ingests()
    assert left.total_bytes == len(layer.data)
    async with running(tmp_path, secured) as (process, bus):
        path = await ensure(bus, layer, reference)
        figures = process.figures()
    assert path.read_bytes() == layer.data
    asked = [request.headers.get("range") for request in fake_registry.requests if layer.digest in request.path]
    assert asked == [None, f"bytes={left.offset}-{len(layer.data) - 1}"]
    assert len(layer.data) <= served.count <= len(layer.data) + 3 * CHUNK_BYTES
    assert f"hythe_fetch_resumed_bytes_total {float(left.offset)}" in figures
    assert list((tmp_path / "content" / "ingest").iterdir()) == []


def leave_half(content: DirectoryContent, blob: Blob) -> None:
    """Leave the first half of a blob as a killed process would."""
    with content.open_ingest(f"layer-{blob.digest}", total_bytes=len(blob.data)) as ingest:
        ingest.write(blob.data[: len(blob.data) // 2])


async def killed_at(failpoint: str, tmp_path: Path, secured: SecuredBus, layer: Blob, reference: str) -> None:
    """Ask a process for a blob that kills itself at a failpoint, and see that it does."""
    async with running(tmp_path, secured, f"{failpoint}=kill") as (process, bus):
        asking = asyncio.create_task(ensure(bus, layer, reference))
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        await given_up(asking)


async def finished(tmp_path: Path, secured: SecuredBus, layer: Blob, reference: str) -> None:
    """Ask the next process for the blob, and see that it is right and nothing else is left."""
    async with running(tmp_path, secured) as (_, bus):
        path = await ensure(bus, layer, reference)
    assert path.read_bytes() == layer.data
    assert list((tmp_path / "content" / "ingest").iterdir()) == []


def is_whole(content: DirectoryContent, blob: Blob) -> bool:
    """Tell whether a blob is in the store, and see that it is whole if it is."""
    try:
        assert b"".join(content.read(parse_digest(blob.digest))) == blob.data
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("failpoint", FAILPOINTS)
async def test_process_killed_at_any_step_of_resuming_leaves_no_blob_or_a_whole_one(
    tmp_path: Path, secured: SecuredBus, fake_registry: FakeRegistry, image: Image, failpoint: str
) -> None:
    """Wherever ``kill -9`` hits a process that goes on with a blob, the half that was here stays, and the next one finishes."""
    layer = image.layers[0]
    reference = fake_registry.serve(image, "killed:1")
    content = DirectoryContent(tmp_path / "content")
    leave_half(content, layer)
    await killed_at(failpoint, tmp_path, secured, layer, reference)
    if not is_whole(content, layer):
        [left] = content.ingests()
        assert left.offset >= len(layer.data) // 2
    await finished(tmp_path, secured, layer, reference)
    asked = [request for request in fake_registry.requests if layer.digest in request.path]
    assert all("range" in request.headers for request in asked)


@pytest.mark.parametrize("failpoint", [name for name in FAILPOINTS if ".resume." not in name])
async def test_process_killed_at_any_step_of_a_first_download_leaves_no_blob_or_a_whole_one(
    tmp_path: Path, secured: SecuredBus, fake_registry: FakeRegistry, image: Image, failpoint: str
) -> None:
    """Wherever ``kill -9`` hits a process that begins with a blob, nothing half can be read, and the next one finishes."""
    layer = image.layers[0]
    reference = fake_registry.serve(image, "killed:1")
    await killed_at(failpoint, tmp_path, secured, layer, reference)
    is_whole(DirectoryContent(tmp_path / "content"), layer)
    await finished(tmp_path, secured, layer, reference)


async def test_large_image_leaves_the_process_small(
    tmp_path: Path, secured: SecuredBus, fake_registry: FakeRegistry, image: Image
) -> None:
    """Memory does not grow with the size of a blob, though it comes in parts over several connections."""
    large = LargeBlob(os.urandom(1 << 20) * 200, image.layers[0].media_type)
    reference = fake_registry.serve(replace(image, blobs=(image.config, large)), "large:1")
    async with running(tmp_path, secured) as (process, bus):
        path = await ensure(bus, large, reference)
        assert process.peak_bytes() < MOST_MEMORY_BYTES
        figures = process.figures()
    assert path.stat().st_size == len(large.data)
    parts = re.search(r"hythe_fetch_parts_total (\d+)", figures)
    assert parts is not None
    assert int(parts[1]) > 10
