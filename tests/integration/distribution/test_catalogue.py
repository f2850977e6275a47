"""Names of images and what they point to: real processes of metadata and distribution, a real registry, a real bus."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.clock import now_rfc3339
from hythe.digest import parse_digest
from hythe.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.wire import images as wire
from hythe.wire.base import Empty
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef
from hythe.wire.distribution import ImagePull, ImagePulled, PullProgress
from hythe.wire.metadata import ContainerBegin, ImagePut, ImageRecord
from hythe_distribution.adapters.directory_store import DirectoryContent
from scripts.lab.images import OCI_MANIFEST, Image, ImageBuilder, Layer, index
from scripts.lab.registry import Registry
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess, connect

ReplyT = TypeVar("ReplyT", bound=BaseModel)
DANGLING = "hythe.invalid/dangling@"


class Stack:
    """Metadata and distribution on a bus of their own."""

    def __init__(self, directory: Path, bus: SecuredBus) -> None:
        self.metadata = ServiceProcess("metadata", directory, bus)
        self.distribution = ServiceProcess("distribution", directory, bus)
        self.content = DirectoryContent(directory / "content")
        self.directory, self.secured = directory, bus
        self.bus: Bus

    async def ask(self, verb: str, request: BaseModel, reply: type[ReplyT], namespace: str = "default") -> ReplyT:
        """Ask distribution about images."""
        return await self.bus.call(
            subjects.rpc(namespace, self.bus.key_name, "distribution", "image", verb), request, reply
        )

    async def pull(self, reference: str, namespace: str = "default") -> ImagePulled:
        """Pull an image."""
        subject = subjects.rpc(namespace, self.bus.key_name, "distribution", "image", "pull")
        request = ImagePull(reference=reference)
        async with self.bus.operate(subject, request, PullProgress, ImagePulled, request_id=new_id()) as operation:
            async for _ in operation:
                pass
            return operation.result

    async def check(self, request: wire.ImageCheck) -> list[wire.ImageCheckResult]:
        """Check images."""
        subject = subjects.rpc("default", self.bus.key_name, "distribution", "image", "check")
        async with self.bus.operate(subject, request, Empty, wire.ImageChecks, request_id=new_id()) as operation:
            async for _ in operation:
                pass
            return operation.result.images

    async def listed(self, namespace: str = "default") -> dict[str, wire.ImageSummary]:
        """Return all images by reference."""
        page = await self.ask("list", wire.ImageList(), wire.ImageSummaryPage, namespace)
        return {image.reference: image for image in page.images}

    async def container(self, name: str, reference: str, digest: str) -> None:
        """Have a record of a container."""
        subject = subjects.rpc("default", self.bus.key_name, "metadata", "container", "begin")
        image = ImageRef(reference=reference, digest=digest)
        wish = ContainerBegin(id=new_id(), name=name, image=image, host=HOST, spec=ContainerSpec())
        await self.bus.call(subject, wish, ContainerRecord)

    async def put(self, reference: str, digest: str) -> None:
        """Have a name, whatever it points to."""
        subject = subjects.rpc("default", self.bus.key_name, "metadata", "image", "put")
        wish = ImagePut(reference=reference, digest=digest, media_type=OCI_MANIFEST, size_bytes=100)
        await self.bus.call(subject, wish, ImageRecord)


@pytest.fixture
def processes(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> Iterator[Stack]:
    """Both processes, running."""
    stack = Stack(tmp_path, SecuredBus(tmp_path, start_nats))
    stack.metadata.start()
    stack.distribution.start()
    yield stack
    stack.distribution.end()
    stack.metadata.end()


@pytest.fixture
async def stack(processes: Stack) -> AsyncIterator[Stack]:
    """Both processes, and the bus as the runtime service has it."""
    processes.bus = await connect(processes.distribution, processes.secured, "runtime")
    yield processes
    await processes.bus.close()


def image(label: str = "") -> Image:
    """Return an image that no other test has."""
    builder = ImageBuilder().layer(Layer().file("a", os.urandom(1000))).config(Labels={"made": label})
    return builder.layer(Layer().file("b", os.urandom(1000)), "none").build()


async def test_life_of_a_name(stack: Stack, registry: Registry) -> None:
    """A pulled image is listed, inspected, told of, tagged, checked and removed, by name and by id."""
    made = image("here")
    reference = registry.push(made, "life:v1")
    await stack.pull(reference)
    summary = (await stack.listed())[reference]
    assert (summary.id, summary.digest) == (made.config.digest, made.manifest.digest)
    assert (summary.complete, summary.dangling, summary.labels) == (True, False, {"made": "here"})
    assert summary.platforms == [summary.platform] == [f"linux/{made.architecture}"]
    tagged = await stack.ask("tag", wire.ImageTag(image=summary.id[7:19], target="mine"), wire.ImageSummary)
    assert (tagged.reference, tagged.digest) == ("docker.io/library/mine:latest", made.manifest.digest)
    details = await stack.ask("inspect", wire.ImageInspect(image="mine"), wire.ImageDetails)
    assert sorted(details.names) == sorted([reference, tagged.reference])
    assert details.config == made.config.data.decode()
    assert details.manifest is not None
    assert [layer.digest for layer in details.manifest.layers] == [layer.digest for layer in made.layers]
    assert (details.manifest.missing, details.manifest.present_bytes) == ([], summary.size_bytes)
    assert details.manifests == [details.manifest]
    history = await stack.ask("history", wire.ImageHistory(image=reference), wire.ImageSteps)
    assert (history.id, [step.layer for step in history.steps]) == (
        made.config.digest,
        [layer.digest for layer in reversed(made.layers)],
    )
    removed = await stack.ask("remove", wire.ImageRemove(image="mine"), wire.ImageRemoved)
    assert (removed.untagged, removed.deleted) == ([tagged.reference], [])
    removed = await stack.ask("remove", wire.ImageRemove(image=summary.id), wire.ImageRemoved)
    assert (removed.untagged, removed.deleted) == ([reference], [made.manifest.digest])
    assert await stack.listed() == {}
    with pytest.raises(NotFound) as raised:
        await stack.ask("inspect", wire.ImageInspect(image=reference), wire.ImageDetails)
    assert raised.value.details["kind"] == "image"
    assert "hythe pull" in raised.value.next_step


async def test_pull_of_a_moved_tag_leaves_the_old_image_dangling(stack: Stack, registry: Registry) -> None:
    """After a new build was pulled the old image is still there, without a name, until it is pruned."""
    old, new = image("old"), image("new")
    reference = registry.push(old, "moved:v1")
    await stack.pull(reference)
    registry.push(new, "moved:v1")
    await stack.pull(reference)
    listed = await stack.listed()
    assert listed[reference].digest == new.manifest.digest
    dangling = listed[DANGLING + old.manifest.digest]
    assert (dangling.dangling, dangling.complete, dangling.labels) == (True, True, {"made": "old"})
    for dry_run in (True, False):
        pruned = await stack.ask("prune", wire.ImagePrune(dry_run=dry_run), wire.ImagePruned)
        assert (pruned.untagged, pruned.deleted) == ([], [old.manifest.digest])
        assert pruned.reclaimable_bytes == len(old.manifest.data) + sum(len(blob.data) for blob in old.blobs)
    assert list(await stack.listed()) == [reference]


async def test_crash_while_a_tag_moves_loses_no_image(
    tmp_path: Path, start_nats: Callable[[str], NatsServer], registry: Registry
) -> None:
    """Killed between the two names, the service leaves a superfluous one, which is not shown and is pruned."""
    secured = SecuredBus(tmp_path, start_nats)
    stack = Stack(tmp_path, secured)
    killed = ServiceProcess("distribution", tmp_path, secured, HYTHE_FAILPOINTS="distribution.name.move=2*off->kill")
    old, new = image("old"), image("new")
    reference, other = registry.push(old, "crash:v1"), registry.push(new, "crash:v2")
    stack.metadata.start()
    killed.start()
    try:
        stack.bus = await connect(killed, secured, "runtime")
        await stack.pull(reference)
        await stack.pull(other)
        with pytest.raises(DeadlineExceeded):
            await stack.ask("tag", wire.ImageTag(image=other, target=reference), wire.ImageSummary)
        assert killed.end() == -signal.SIGKILL
        stack.distribution.start()
        listed = await stack.listed()
        assert {name: found.digest for name, found in listed.items()} == {
            reference: old.manifest.digest,
            other: new.manifest.digest,
        }
        pruned = await stack.ask("prune", wire.ImagePrune(), wire.ImagePruned)
        assert (pruned.untagged, pruned.deleted) == ([], [])
        removed = await stack.ask("remove", wire.ImageRemove(image=reference), wire.ImageRemoved)
        assert removed.deleted == [old.manifest.digest]
        await stack.bus.close()
    finally:
        killed.end()
        stack.distribution.end()
        stack.metadata.end()


async def test_image_that_a_container_uses_is_kept(stack: Stack, registry: Registry) -> None:
    """Neither removal nor pruning takes the image of a container; usage counts what uses it."""
    used, unused = image("used"), image("unused")
    kept, other = registry.push(used, "used:v1"), registry.push(unused, "unused:v1")
    await stack.pull(kept)
    await stack.pull(other)
    await stack.container("web", kept, used.manifest.digest)
    with pytest.raises(FailedPrecondition) as raised:
        await stack.ask("remove", wire.ImageRemove(image=kept), wire.ImageRemoved)
    assert "web" in raised.value.message
    usage = await stack.ask("usage", wire.ImageUsage(), wire.ImageUsages)
    assert {row.references[0]: row.containers for row in usage.images} == {kept: 1, other: 0}
    assert usage.unreferenced_bytes == 0
    pruned = await stack.ask("prune", wire.ImagePrune(all=True, labels=["made"]), wire.ImagePruned)
    assert (pruned.untagged, pruned.deleted) == ([other], [unused.manifest.digest])
    assert pruned.reclaimable_bytes == usage.reclaimable_bytes
    left = await stack.ask("usage", wire.ImageUsage(), wire.ImageUsages)
    assert left.unreferenced_bytes == pruned.reclaimable_bytes
    removed = await stack.ask("remove", wire.ImageRemove(image=kept, force=True), wire.ImageRemoved)
    assert removed.deleted == [used.manifest.digest]


async def test_prune_keeps_what_another_namespace_needs(stack: Stack, registry: Registry) -> None:
    """Names of a namespace are its own, content is shared: nothing is called reclaimable that another still has."""
    made = image()
    reference = registry.push(made, "shared:v1")
    await stack.pull(reference)
    await stack.pull(reference, "other")
    young = wire.ImagePrune(all=True, before="2020-01-01T00:00:00Z")
    assert (await stack.ask("prune", young, wire.ImagePruned)).deleted == []
    everything = wire.ImagePrune(all=True, before=now_rfc3339())
    pruned = await stack.ask("prune", everything, wire.ImagePruned)
    assert (pruned.deleted, pruned.reclaimable_bytes) == ([made.manifest.digest], 0)
    assert (await stack.listed(), list(await stack.listed("other"))) == ({}, [reference])
    with pytest.raises(InvalidArgument):
        await stack.ask("prune", wire.ImagePrune(before="yesterday"), wire.ImagePruned)


async def test_damage_on_the_disk_is_found(stack: Stack, registry: Registry) -> None:
    """A check tells which blob is gone, and with verify which one has changed, of an index as of a manifest."""
    mine = image()
    reference = registry.push(index([mine]), "damaged:v1")
    await stack.pull(reference)
    (whole,) = await stack.check(wire.ImageCheck(verify=True))
    assert (whole.complete, whole.blobs, whole.missing, whole.corrupt) == (True, 5, [], [])
    stack.content.delete(parse_digest(mine.layers[0].digest))
    path = stack.content.locate(parse_digest(mine.layers[1].digest))
    path.chmod(0o644)
    path.write_bytes(b"x" * len(mine.layers[1].data))
    request = wire.ImageCheck(images=[reference], verify=True)
    (broken,) = await stack.check(request)
    assert (broken.complete, broken.missing, broken.corrupt) == (
        False,
        [mine.layers[0].digest],
        [mine.layers[1].digest],
    )
    assert broken.size_bytes - broken.present_bytes == len(mine.layers[0].data)


async def test_many_names_are_listed_and_searched_in_time(stack: Stack, registry: Registry) -> None:
    """With many names lists come in pages, and an id is found well within the time a request has."""
    made = image()
    reference = registry.push(made, "many:v1")
    await stack.pull(reference)
    for number in range(600):
        await stack.put(f"registry.example/app:{number:04}", f"sha256:{number:064x}")
    seen: list[wire.ImageSummary] = []
    after = ""
    while True:
        page = await stack.ask("list", wire.ImageList(after=after, limit=500), wire.ImageSummaryPage)
        seen += page.images
        if not (after := page.next):
            break
    assert len(seen) == 601
    assert [summary.reference for summary in seen if summary.complete] == [reference]
    found = await stack.ask("inspect", wire.ImageInspect(image=made.config.digest[7:27]), wire.ImageDetails)
    assert found.names == [reference]
