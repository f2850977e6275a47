"""Leases of the distribution process on a real bus, beside a metadata service that a test looks into."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.transfer import append
from hythe.errors import HytheError, Unavailable
from hythe.identifiers import new_id
from hythe.wire import content, images, leases
from hythe.wire.distribution import Descriptor, ImagePull, ImagePulled, PullProgress
from hythe.wire.metadata import ImagePut
from scripts.lab.images import OCI_MANIFEST, Blob, Image, ImageBuilder, Layer
from tests.fakes.archives import tar_of
from tests.fakes.faults import status
from tests.fakes.metadata_desk import STORE_ID, MetadataDesk
from tests.fakes.registry import FakeRegistry
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import until
from tests.integration.distribution.collections import Metadata
from tests.integration.distribution.processes import ServiceProcess

ReplyT = TypeVar("ReplyT", bound=BaseModel)
NAMESPACE = "default"
REFER, PUT, REMOVE = "content.refer", "image.put", "lease.remove"


class Stand:
    """A distribution process, the metadata service that it asks, and who asks it.

    Attributes:
        desk: metadata.
        process: distribution.
        user: the bus as runtime uses it; `bundle` as bundle does.
    """

    def __init__(self, directory: Path, secured: SecuredBus) -> None:
        self.desk = MetadataDesk()
        self.process = ServiceProcess("distribution", directory, secured)
        self._peers = Peers(directory, secured)
        self.user: Bus
        self.bundle: Bus

    async def start(self) -> None:
        """Start both, and connect."""
        await self._peers.service("metadata", self.desk.register)
        await asyncio.to_thread(self.process.start)
        self.user, self.bundle = await self._peers.bus("runtime"), await self._peers.bus("bundle")

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.to_thread(self.process.end)
        await self._peers.close()

    async def pull(self, reference: str, request_id: str = "") -> ImagePulled:
        """Pull an image."""
        subject = subjects.rpc(NAMESPACE, self.user.key_name, "distribution", "image", "pull")
        request = ImagePull(reference=reference, plain_http=True)
        async with self.user.operate(
            subject, request, PullProgress, ImagePulled, request_id=request_id or new_id()
        ) as operation:
            async for _ in operation:
                pass
            return operation.result

    async def collector(self) -> Bus:
        """Connect as the one who collects."""
        return await self._peers.bus("metadata")

    async def ask(self, noun: str, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        """Make a request to the service."""
        subject = subjects.rpc(NAMESPACE, self.user.key_name, "distribution", noun, verb)
        return await self.user.call(subject, request, reply)

    async def ask_host(self, noun: str, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        """Make a request to the service of this host, as bundle does."""
        subject = subjects.host_rpc(NAMESPACE, HOST, "distribution", noun, verb)
        return await self.bundle.call(subject, request, reply)

    async def put(self, *blobs: Blob) -> None:
        """Put blobs into the namespace's content."""
        for blob in blobs:
            opened = await self.ask_host("ingest", "open", content.IngestOpen(reference=new_id()), content.IngestOpened)
            await asyncio.to_thread(append, opened.url, 0, blob.data, "put a blob")
            await self.ask_host("ingest", "commit", content.IngestCommit(session=opened.session), content.ContentInfo)

    async def blobs(self) -> list[str]:
        """Return the digests of what the namespace sees."""
        page = await self.ask_host("content", "list", content.ContentList(), content.ContentPage)
        return [blob.digest for blob in page.blobs]

    async def no_lease(self) -> None:
        """Return once no lease is left."""
        await until(lambda: not self.desk.leases, what="no lease is left")

    def referred(self) -> dict[str, dict[str, str]]:
        """Return everything that was referred to so far, with its labels."""
        requests = [request for _, request in self.desk.asked if isinstance(request, leases.ContentRefer)]
        return {each.digest: each.labels for request in requests for each in request.content}


@pytest.fixture
async def stand(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Stand]:
    """Both services, running."""
    made = Stand(tmp_path, SecuredBus(tmp_path, start_nats))
    await made.start()
    yield made
    await made.close()


def image() -> Image:
    """Return an image of one layer that nobody else has."""
    return ImageBuilder().layer(Layer().file("a", os.urandom(100_000)), "none").build()


def all_of(built: Image) -> set[str]:
    """Return the digests of all that an image consists of."""
    return {built.manifest.digest, *(blob.digest for blob in built.blobs)}


async def test_pull_refers_to_the_whole_image_under_its_request_id(stand: Stand, fake_registry: FakeRegistry) -> None:
    """One transaction names manifest, config and layers with the labels they will have; the name ends the lease in its own."""
    built, request_id = image(), new_id()
    fake_registry.serve(built, "app:1")
    await stand.pull(f"{fake_registry.address}/app:1", request_id)
    refer, put = (request for verb, request in stand.desk.asked if verb in (REFER, PUT))
    assert isinstance(refer, leases.ContentRefer)
    assert isinstance(put, ImagePut)
    assert (refer.lease, put.lease, put.digest) == (request_id, request_id, built.manifest.digest)
    assert set(stand.referred()) == all_of(built)
    assert set(stand.referred()[built.manifest.digest].values()) == {blob.digest for blob in built.blobs}
    await stand.no_lease()
    assert REMOVE not in stand.desk.verbs()


async def test_image_that_was_pulled_is_kept_from_a_store_of_before_that(
    stand: Stand, fake_registry: FakeRegistry
) -> None:
    """A copy of the metadata store from before a pull is told by what the lease of the pull said, before any collection."""
    fake_registry.serve(image(), "app:1")
    stand.desk.store_revision = 50
    await stand.pull(f"{fake_registry.address}/app:1")
    await until(
        lambda: any(b'"heard":[50,' in path.read_bytes() for path in stand.process.root.rglob("*.db*")),
        what="how far the store is was noted",
    )
    metadata = Metadata(await stand.collector())
    metadata.store_id, metadata.revision = STORE_ID, 40
    begun = await metadata.begin()
    assert (begun.trusted, begun.reason) == (False, "older store")


async def test_nothing_is_stored_until_metadata_has_answered(stand: Stand, fake_registry: FakeRegistry) -> None:
    """While the reference is on its way, content is empty; a pull that is given up then leaves neither lease nor blob."""
    fake_registry.serve(image(), "app:1")
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(verb: str) -> None:
        if verb == REFER:
            reached.set()
            await go.wait()

    stand.desk.before = wait
    pulling = asyncio.create_task(stand.pull(f"{fake_registry.address}/app:1"))
    await reached.wait()
    assert not list((stand.process.root / "content" / "blobs").rglob("*/*"))
    pulling.cancel()
    await asyncio.wait([pulling])
    await until(lambda: REMOVE in stand.desk.verbs(), what="the lease is ended")
    go.set()
    assert await stand.blobs() == []


async def test_pull_of_what_is_here_costs_one_request_more(stand: Stand, fake_registry: FakeRegistry) -> None:
    """Between the look at the name and the answer there is one request to metadata; the lease ends afterwards."""
    fake_registry.serve(image(), "app:1")
    reference = f"{fake_registry.address}/app:1"
    await stand.pull(reference)
    await stand.no_lease()
    stand.desk.asked.clear()
    await stand.pull(reference)
    await stand.no_lease()
    assert stand.desk.verbs() == ["image.get", REFER, REMOVE]


async def test_pull_whose_registry_fails_leaves_no_lease(stand: Stand, fake_registry: FakeRegistry) -> None:
    """A pull that fails after it has referred to the image gives it free again."""
    built = image()
    fake_registry.serve(built, "app:1")
    fake_registry.break_at(built.layers[0].digest, status(404))
    with pytest.raises(HytheError):
        await stand.pull(f"{fake_registry.address}/app:1")
    await until(lambda: REMOVE in stand.desk.verbs(), what="the lease is ended")
    assert stand.desk.leases == {}


async def test_killed_process_leaves_its_lease_to_run_out(stand: Stand, fake_registry: FakeRegistry) -> None:
    """After `kill -9` the lease is there until it runs out, and a repeat of the request goes on under the same."""
    built, request_id = image(), new_id()
    fake_registry.serve(built, "app:1")
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(verb: str) -> None:
        if verb == PUT:
            reached.set()
            await go.wait()

    stand.desk.before = wait
    reference = f"{fake_registry.address}/app:1"
    pulling = asyncio.create_task(stand.pull(reference, request_id))
    await reached.wait()
    await asyncio.to_thread(stand.process.end, signal.SIGKILL)
    pulling.cancel()
    await asyncio.wait([pulling])
    assert list(stand.desk.leases) == [(NAMESPACE, request_id)]
    go.set()
    await asyncio.to_thread(stand.process.start)
    await stand.pull(reference, request_id)
    await stand.no_lease()


async def test_loaded_archive_is_held_until_its_images_have_names(stand: Stand) -> None:
    """Before anything of an archive becomes visible it is referred to, and the lease goes when the image has its name."""
    built = image()
    taken = await stand.ask("image", "import", images.ImageImport(), images.TransferAddress)
    names = "registry.example/loaded:1"
    manifest = built.manifest.descriptor(annotations={"io.containerd.image.name": names})
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(),
        **{f"blobs/sha256/{blob.digest[7:]}": blob.data for blob in (built.manifest, *built.blobs)},
    }
    await asyncio.to_thread(send, taken.url, tar_of(files))
    assert set(stand.referred()) == set(await stand.blobs()) == all_of(built)
    assert stand.desk.verbs().index(REFER) < stand.desk.verbs().index(PUT)
    await stand.no_lease()


async def test_archive_is_refused_when_metadata_is_away(stand: Stand) -> None:
    """Nothing of an archive is taken in that could not be given a name."""
    taken = await stand.ask("image", "import", images.ImageImport(), images.TransferAddress)

    async def refuse(verb: str) -> None:
        raise Unavailable("metadata is stopping", service="metadata")

    stand.desk.before = refuse
    blob = Blob(b"some blob", "application/octet-stream")
    archive = tar_of({f"blobs/sha256/{blob.digest[7:]}": blob.data})
    with pytest.raises(urllib.error.HTTPError) as raised:
        await asyncio.to_thread(send, taken.url, archive)
    assert raised.value.code == 503
    assert await stand.blobs() == []
    assert not list((stand.process.root / "content" / "blobs").rglob("*/*"))


async def test_saved_image_is_held_until_its_archive_was_read(stand: Stand, fake_registry: FakeRegistry) -> None:
    """The lease is there from before the image is looked for until the last byte of the archive, and then no more."""
    built = image()
    fake_registry.serve(built, "app:1")
    reference = f"{fake_registry.address}/app:1"
    await stand.pull(reference)
    await stand.no_lease()
    stand.desk.asked.clear()
    address = await stand.ask("image", "export", images.ImageExport(images=[reference]), images.TransferAddress)
    assert [set(kept) for kept in stand.desk.leases.values()] == [{built.manifest.digest}]
    archive = await asyncio.to_thread(read, address.url)
    assert built.layers[0].data in archive
    await stand.no_lease()
    assert stand.desk.verbs()[-2:] == [REFER, REMOVE]


async def test_registered_image_is_held_until_it_has_its_name(stand: Stand) -> None:
    """What was made here is referred to with all its blobs before it is made visible as an image."""
    built = image()
    await stand.put(built.manifest, *built.blobs)
    target = Descriptor(media_type=OCI_MANIFEST, digest=built.manifest.digest, size_bytes=len(built.manifest.data))
    request = images.ImageRegister(reference="registry.example/made:1", target=target)
    await stand.ask_host("image", "register", request, images.ImageSummary)
    assert set(stand.referred()) == all_of(built)
    assert stand.desk.verbs().index(REFER) < stand.desk.verbs().index(PUT)
    await stand.no_lease()


async def test_repaired_blob_is_held_while_it_is_fetched_again(stand: Stand, fake_registry: FakeRegistry) -> None:
    """A check refers to nothing, a repair to each blob that it fetches again."""
    built = image()
    fake_registry.serve(built, "app:1")
    await stand.pull(f"{fake_registry.address}/app:1")
    await stand.no_lease()
    layer = built.layers[0].digest
    path = stand.process.root / "content" / "blobs" / "sha256" / layer[7:]
    path.chmod(0o600)
    path.write_bytes(b"spoilt")
    stand.desk.asked.clear()
    await check(stand, repair=False)
    assert stand.desk.asked == []
    checked = await check(stand, repair=True)
    assert [(finding.digest, finding.state) for finding in checked.findings] == [(layer, "repaired")]
    assert set(stand.referred()) == {layer}
    await stand.no_lease()


async def check(stand: Stand, *, repair: bool) -> content.ContentChecked:
    """Check all blobs of the namespace."""
    subject = subjects.host_rpc(NAMESPACE, HOST, "distribution", "content", "check")
    request = content.ContentCheck(repair=repair)
    async with stand.bundle.operate(
        subject, request, content.ContentCheckProgress, content.ContentChecked, request_id=new_id()
    ) as operation:
        async for _ in operation:
            pass
        return operation.result


def send(url: str, data: bytes) -> Any:
    """POST an archive and return what is answered."""
    with urllib.request.urlopen(urllib.request.Request(url, data, method="POST"), timeout=20) as answer:
        return json.loads(answer.read())


def read(url: str) -> bytes:
    """GET an archive."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return bytes(answer.read())
