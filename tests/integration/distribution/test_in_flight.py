"""Reading a blob from the distribution process while it is still being fetched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.content import BusContent
from hythe.digest import parse_digest
from hythe.errors import DataLoss, HytheError, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.wire.distribution import ContentEnsure, ContentLocation, Descriptor, LayerProgress
from scripts.lab.images import Blob, Image, ImageBuilder, Layer
from tests.fakes import faults
from tests.fakes.registry import Answer, FakeRegistry, Handler
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually
from tests.integration.distribution.processes import ServiceProcess, connect

SIZE_BYTES = 8 << 20


class Readers:
    """A distribution process, and both ways to ask it."""

    def __init__(self, bus: Bus, content: BusContent) -> None:
        self.bus = bus
        self.content = content

    async def ensure(self, blob: Blob, reference: str) -> ContentLocation:
        """Have a blob fetched."""
        subject = subjects.host_rpc("default", HOST, "distribution", "content", "ensure")
        wanted = Descriptor(media_type=blob.media_type, digest=blob.digest, size_bytes=len(blob.data))
        request = ContentEnsure(descriptor=wanted, reference=reference)
        async with self.bus.operate(subject, request, LayerProgress, ContentLocation, request_id=new_id()) as operation:
            async for _ in operation:
                pass
            return operation.result


@pytest.fixture
async def readers(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Readers]:
    """A distribution process that is up."""
    secured = SecuredBus(tmp_path, start_nats)
    process = ServiceProcess("distribution", tmp_path, secured)
    process.start()
    bus, client = await connect(process, secured, "bundle"), secured.sync()
    yield Readers(bus, BusContent(client, "default", HOST))
    client.close()
    await bus.close()
    process.end()


def big_image() -> Image:
    """Return an image whose layer takes a while to come when it is paced."""
    return ImageBuilder().layer(Layer().file("big", os.urandom(SIZE_BYTES)), "none").build()


async def test_reader_sees_bytes_before_the_download_is_done(readers: Readers, fake_registry: FakeRegistry) -> None:
    """Who reads a blob in flight has its beginning while the rest is on its way, and at the end all of it, verified."""
    image = big_image()
    layer = image.layers[0]
    reference = fake_registry.serve(image, "flying/app:1")
    fake_registry.break_at(layer.digest, faults.paced(1 << 20, 0.1))
    ensuring = asyncio.create_task(readers.ensure(layer, reference))
    digest = parse_digest(layer.digest)

    def opened() -> list[bytes]:
        try:
            stream = readers.content.stream(digest, in_flight=True)
        except NotFound:
            return []
        return [next(stream), *([] if ensuring.done() else [b"still coming"]), b"".join(stream)]

    first, *early, rest = await asyncio.to_thread(eventually, opened, what="the blob can be read")
    assert early == [b"still coming"]
    assert first + rest == layer.data
    assert (await ensuring).size_bytes == len(layer.data)


async def test_reader_of_a_failed_download_gets_an_error(readers: Readers, fake_registry: FakeRegistry) -> None:
    """Bytes that turn out not to be the blob never end as if they were."""
    image = big_image()
    layer = image.layers[0]
    reference = fake_registry.serve(image, "failing/app:1")
    lie = layer.data[:-1] + bytes([layer.data[-1] ^ 1])

    def paced_lie(handler: Handler, answer: Answer) -> Answer | None:
        return faults.paced(1 << 20, 0.1)(handler, replace(answer, body=lie))

    fake_registry.break_at(layer.digest, paced_lie)
    ensuring = asyncio.create_task(readers.ensure(layer, reference))

    def read() -> list[bytes | HytheError]:
        try:
            return [b"".join(readers.content.stream(parse_digest(layer.digest), in_flight=True))]
        except NotFound:
            return []
        except HytheError as error:
            return [error]

    (got,) = await asyncio.to_thread(eventually, read, what="the blob can be read")
    assert isinstance(got, Unavailable)
    with pytest.raises(DataLoss):
        await ensuring
