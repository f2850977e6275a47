"""``image.register``: images made here get a name; real processes of metadata and distribution on a real bus."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.transfer import append
from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from hythe.identifiers import new_id
from hythe.wire import content, images
from hythe.wire.base import Empty
from hythe.wire.distribution import Descriptor
from scripts.lab.images import OCI_INDEX, OCI_MANIFEST, Blob, Image, ImageBuilder, Layer, digest_text, index
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess, connect

ReplyT = TypeVar("ReplyT", bound=BaseModel)
REFERENCE = "registry.example/made:v1"


class Stack:
    """Metadata and distribution in a namespace of its own, asked by the bundle service's key."""

    def __init__(self, bundle: Bus, runtime: Bus) -> None:
        self.bus = bundle
        self.namespace = new_id()[:12]
        self._runtime = runtime

    async def put(self, *blobs: Blob) -> None:
        """Put blobs into the namespace's content, one that is there already not again."""
        for blob in blobs:
            opened = await self._ask("ingest", "open", content.IngestOpen(reference=new_id()), content.IngestOpened)
            await asyncio.to_thread(append, opened.url, 0, blob.data, "put a blob")
            try:
                await self._ask("ingest", "commit", content.IngestCommit(session=opened.session), content.ContentInfo)
            except AlreadyExists:
                pass

    async def register(
        self, blob: Blob, reference: str = REFERENCE, media_type: str = OCI_MANIFEST
    ) -> images.ImageSummary:
        """Register a root."""
        target = Descriptor(media_type=media_type, digest=blob.digest, size_bytes=len(blob.data))
        request = images.ImageRegister(reference=reference, target=target)
        return await self._ask("image", "register", request, images.ImageSummary)

    async def labels(self, blob: Blob) -> dict[str, str]:
        """Return the labels of a blob."""
        info = await self._ask("content", "info", content.ContentInfoGet(digest=blob.digest), content.ContentInfo)
        return dict(info.labels)

    async def remove(self, blob: Blob) -> None:
        """Take a blob out of the namespace."""
        await self._ask("content", "remove", content.ContentRemove(digest=blob.digest), Empty)

    async def listed(self) -> dict[str, images.ImageSummary]:
        """Return all images by reference."""
        subject = subjects.rpc(self.namespace, self._runtime.key_name, "distribution", "image", "list")
        page = await self._runtime.call(subject, images.ImageList(), images.ImageSummaryPage)
        return {image.reference: image for image in page.images}

    async def _ask(self, noun: str, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        subject = subjects.host_rpc(self.namespace, HOST, "distribution", noun, verb)
        return await self.bus.call(subject, request, reply)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServiceProcess, SecuredBus]]:
    """Both processes, running."""
    directory = tmp_path_factory.mktemp("register")
    with ExitStack() as at_end:

        def start_server(config: str) -> NatsServer:
            server = NatsServer(directory / "nats", config)
            at_end.callback(server.kill)
            server.start()
            return server

        secured = SecuredBus(directory, start_server)
        metadata, distribution = (ServiceProcess(name, directory, secured) for name in ("metadata", "distribution"))
        for process in (metadata, distribution):
            at_end.callback(process.end)
            process.start()
        yield distribution, secured


@pytest.fixture
async def stack(processes: tuple[ServiceProcess, SecuredBus]) -> AsyncIterator[Stack]:
    """Both processes and the bus."""
    bundle = await connect(*processes, "bundle")
    runtime = await connect(*processes, "runtime")
    yield Stack(bundle, runtime)
    await bundle.close()
    await runtime.close()


def image() -> Image:
    """Return an image that no other test has."""
    return ImageBuilder().layer(Layer().file("a", os.urandom(1000))).build()


def artifact() -> tuple[Blob, Blob, Blob]:
    """Return manifest, config and one layer of an artifact with types of its own."""
    layer = Blob(os.urandom(500), "application/vnd.example.bundle.layer.v1.tar")
    config = Blob(b"{}", "application/vnd.oci.empty.v1+json")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.bundle.v1",
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    return Blob(json.dumps(document).encode(), OCI_MANIFEST), config, layer


async def test_image_whose_blobs_are_here_gets_its_name_and_labels(stack: Stack) -> None:
    """A registered image is listed whole, and its blobs have the labels of a pulled one; repeating it changes nothing."""
    made = image()
    await stack.put(*made.blobs, made.manifest)
    for _ in range(2):
        summary = await stack.register(made.manifest)
        assert (summary.reference, summary.digest, summary.id) == (REFERENCE, made.manifest.digest, made.config.digest)
        assert summary.complete
    assert list(await stack.listed()) == [REFERENCE]
    assert await stack.labels(made.manifest) == {
        "containerd.io/gc.ref.content.config": made.config.digest,
        "containerd.io/gc.ref.content.l.0": made.layers[0].digest,
    }
    uncompressed = json.loads(made.config.data)["rootfs"]["diff_ids"][0]
    assert await stack.labels(made.layers[0]) == {"containerd.io/uncompressed": uncompressed}


async def test_name_that_moves_leaves_the_old_image_dangling(stack: Stack) -> None:
    """Registering another image under the name keeps the one before, without a name, as a pull does."""
    old, new = image(), image()
    await stack.put(*old.blobs, old.manifest, *new.blobs, new.manifest)
    await stack.register(old.manifest)
    await stack.register(new.manifest)
    listed = await stack.listed()
    assert listed[REFERENCE].digest == new.manifest.digest
    assert listed[f"hythe.invalid/dangling@{old.manifest.digest}"].dangling


async def test_missing_blob_is_named_and_nothing_is_registered(stack: Stack) -> None:
    """Whatever of an image is missing, config, layer or manifest, its digest is told and no name is made."""
    made = image()
    everything = (*made.blobs, made.manifest)
    await stack.put(*everything)
    for missing in everything:
        await stack.remove(missing)
        with pytest.raises(FailedPrecondition) as raised:
            await stack.register(made.manifest)
        assert missing.digest in raised.value.message
        assert raised.value.details["digest"] == missing.digest
        await stack.put(missing)
    assert await stack.listed() == {}


async def test_blob_of_another_namespace_does_not_count(stack: Stack) -> None:
    """What another namespace has is missing here, for who may name a digest need not have its bytes."""
    made = image()
    await stack.put(*made.blobs, made.manifest)
    subject = subjects.host_rpc("other", HOST, "distribution", "image", "register")
    target = Descriptor(media_type=OCI_MANIFEST, digest=made.manifest.digest, size_bytes=len(made.manifest.data))
    with pytest.raises(FailedPrecondition):
        await stack.bus.call(subject, images.ImageRegister(reference=REFERENCE, target=target), images.ImageSummary)


async def test_artifact_is_registered_like_an_image(stack: Stack) -> None:
    """A manifest with an artifactType and types of its own gets a name and keeps its blobs."""
    manifest, config, layer = artifact()
    await stack.put(manifest, config, layer)
    summary = await stack.register(manifest)
    assert summary.digest == manifest.digest
    assert set((await stack.labels(manifest)).values()) == {config.digest, layer.digest}


async def test_index_needs_one_whole_entry_and_may_lack_others(stack: Stack) -> None:
    """An index counts with the platforms that are here; one of which only a part is here is refused."""
    mine, other = image(), image()
    both = index([mine, other])
    await stack.put(both.root)
    with pytest.raises(FailedPrecondition) as raised:
        await stack.register(both.root, media_type=OCI_INDEX)
    assert "nothing of the index" in raised.value.message
    await stack.put(*mine.blobs, mine.manifest)
    assert (await stack.register(both.root, media_type=OCI_INDEX)).complete
    await stack.put(other.manifest)
    with pytest.raises(FailedPrecondition) as raised:
        await stack.register(both.root, media_type=OCI_INDEX)
    assert raised.value.details["digest"] in {blob.digest for blob in other.blobs}


async def test_wrong_words_about_a_root_are_refused(stack: Stack) -> None:
    """A wrong type, a wrong size, a config that doesn't fit its manifest, a reserved name: each has its error."""
    made = image()
    await stack.put(*made.blobs, made.manifest)
    with pytest.raises(InvalidArgument):
        await stack.register(made.manifest, media_type="application/octet-stream")
    with pytest.raises(InvalidArgument):
        await stack.register(made.manifest, media_type=OCI_INDEX)
    with pytest.raises(InvalidArgument):
        await stack.register(made.manifest, f"hythe.invalid/x@{made.manifest.digest}")
    with pytest.raises(InvalidArgument):
        await stack.register(made.manifest, f"registry.example/made@{digest_text(b'another')}")
    longer = Blob(made.manifest.data + b" ", OCI_MANIFEST)
    target = Descriptor(media_type=OCI_MANIFEST, digest=made.manifest.digest, size_bytes=len(longer.data))
    subject = subjects.host_rpc(stack.namespace, HOST, "distribution", "image", "register")
    with pytest.raises(FailedPrecondition) as raised:
        await stack.bus.call(subject, images.ImageRegister(reference=REFERENCE, target=target), images.ImageSummary)
    assert "bytes" in raised.value.message
    config = json.loads(made.config.data)
    config["rootfs"]["diff_ids"] = []
    unfit = Blob(json.dumps(config).encode(), made.config.media_type)
    document = json.loads(made.manifest.data)
    document["config"] = unfit.descriptor()
    broken = Blob(json.dumps(document).encode(), OCI_MANIFEST)
    await stack.put(unfit, broken)
    with pytest.raises(InvalidArgument):
        await stack.register(broken)
    assert await stack.listed() == {}
