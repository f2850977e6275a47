"""Images made of snapshots: on which image each stands, and that a failed commit leaves nothing; real snapshots and workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe.bus.endpoint import Context
from hythe.digest import Digest, digest_of
from hythe.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from hythe.holding import Holder
from hythe.identifiers import new_id
from hythe.oci import Descriptor, Manifest, default_platform, parse_config, parse_document
from hythe.wire.changes import SnapshotDiff
from hythe_bundle.adapters.differ_worker import WorkerDiffer
from hythe_bundle.adapters.image_cache import ImageCache
from hythe_bundle.committing import CommitOrder, Committer
from hythe_bundle.comparing import ATTEMPTS, Comparer
from hythe_bundle.diff_handlers import DiffHandlers
from hythe_bundle.differ import SHRANK, Comparison, LayerForm, Sink, WrittenLayer
from hythe_bundle.new_image import ImageWish
from scripts.lab.images import Image, ImageBuilder, Layer
from tests.fakes.blobs import LocalBlobs
from tests.fakes.leases import MemoryLeases
from tests.fakes.stores import MemoryStore
from tests.fixtures.bundles import Rig
from tests.fixtures.waiting import until

NAMESPACE = "default"


class ShrinkingDiffer(WorkerDiffer):
    """Finds a file that became shorter, `left` times."""

    left = 0

    async def write(
        self, comparison: Comparison, form: LayerForm, sink: Sink, progress: Callable[[int], None]
    ) -> WrittenLayer:
        """See `Differ.write`."""
        if self.left:
            self.left -= 1
            await sink(b"half of it")
            raise FailedPrecondition("compare: 'log' became shorter", details={"kind": SHRANK})
        return await super().write(comparison, form, sink, progress)


class Lab:
    """A committer on real snapshots and a store in memory."""

    def __init__(self, directory: Path) -> None:
        self.rig = Rig(directory / "bundle", LocalBlobs(directory / "blobs"))
        self.leases = MemoryLeases()
        self.store: MemoryStore = MemoryStore()
        self.differ = ShrinkingDiffer(self.rig.root)
        self.comparer = Comparer(self.rig.snapshots, self.differ, self.store)
        images = ImageCache(self.rig.database)
        self.committer = Committer(self.comparer, self.store, images, default_platform())

    async def image(self) -> tuple[Image, str]:
        """Return an image that is unpacked and in content, and its top snapshot."""
        builder = ImageBuilder().layer(Layer().file("below", new_id().encode())).config(Cmd=["sh"])
        image = builder.layer(Layer().file("top")).build()
        self.store.add(NAMESPACE, image)
        return image, (await self.rig.unpack(image)).image.chain_id

    async def active(self, parent: str, record: dict[str, object] | None = None) -> str:
        """Return an active snapshot with a new file, of a container if there is a `record`."""
        key = new_id()
        labels = None if record is None else {"bundle/record.json": json.dumps(record)}
        await self.rig.snapshots.prepare(key, parent, labels=labels)
        directory = await self.rig.snapshots.changes_in(key)
        assert directory is not None
        await asyncio.to_thread((directory / "new").write_text, "new")
        return key

    async def commit(self, key: str) -> tuple[Manifest, list[str]]:
        """Commit a snapshot; return the manifest of the image and the commands of its history."""
        order = CommitOrder(NAMESPACE, key, "local/made", ImageWish(10**18), LayerForm())
        async with Holder(self.leases).hold(NAMESPACE, "commit") as held:
            made = await self.committer.commit(order, held, lambda done: None)
        assert self.store.names[NAMESPACE, "local/made"] == made.manifest
        manifest = parse_document(self.store.blobs[NAMESPACE, made.manifest.digest])
        assert isinstance(manifest, Manifest)
        assert made.size_bytes == sum(blob.size_bytes for blob in (manifest.config, *manifest.layers))
        config = parse_config(self.store.blobs[NAMESPACE, manifest.config.digest])
        assert len(config.diff_ids) == len(manifest.layers)
        return manifest, [step.created_by for step in config.history]


def record_of(image: Image, chain_id: str, namespace: str = NAMESPACE) -> dict[str, object]:
    """Return the record of a container of an image."""
    facts = {"reference": "registry.example/base:1", "manifest": image.manifest.digest, "chain_id": chain_id}
    return {"namespace": namespace, "image": facts, "args": ["sh", "-c", "date"]}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A committer on a fresh directory."""
    made = Lab(tmp_path)
    yield made
    await made.rig.close()


def layers_of(image: Image) -> list[str]:
    """Return the digests of an image's layers."""
    return [layer.digest for layer in image.layers]


async def test_container_stands_on_the_image_it_was_made_from(lab: Lab) -> None:
    """The layers of the container's image come first, then the new one; the command it ran is in the history."""
    image, chain_id = await lab.image()
    manifest, commands = await lab.commit(await lab.active(chain_id, record_of(image, chain_id)))
    assert [str(layer.digest) for layer in manifest.layers][:-1] == layers_of(image)
    assert manifest.annotations["org.opencontainers.image.base.digest"] == image.manifest.digest
    assert commands[-1] == "sh -c date"


async def test_any_snapshot_stands_on_the_image_that_ends_with_its_parent(lab: Lab) -> None:
    """A snapshot that no container has stands on an unpacked image if its parent is that image's top layer."""
    image, chain_id = await lab.image()
    manifest, _ = await lab.commit(await lab.active(chain_id))
    assert [str(layer.digest) for layer in manifest.layers][:-1] == layers_of(image)


async def test_snapshot_of_no_known_image_becomes_one_layer(lab: Lab) -> None:
    """A layer in the middle of an image, or a snapshot on nothing, becomes an image of everything that it shows."""
    _, chain_id = await lab.image()
    middle = (await lab.rig.snapshots.stat(chain_id)).parent
    for key in (middle, await lab.active("")):
        manifest, _ = await lab.commit(key)
        assert len(manifest.layers) == 1


async def test_container_of_another_namespace_is_not_there(lab: Lab) -> None:
    """Nobody reads the files of another namespace's container; one that runs a directory has no files here."""
    image, chain_id = await lab.image()
    foreign = await lab.active(chain_id, record_of(image, chain_id, "other"))
    with pytest.raises(NotFound):
        await lab.commit(foreign)
    with pytest.raises(FailedPrecondition, match="directory"):
        await lab.commit(await lab.active("", {"namespace": NAMESPACE, "args": []}))


async def test_failed_commit_takes_back_what_it_added(lab: Lab) -> None:
    """A full disk while the layer is written, or a refused name at the end: content is as it was before."""
    image, chain_id = await lab.image()
    key = await lab.active(chain_id, record_of(image, chain_id))
    before = lab.store.digests(NAMESPACE)
    for verb in ("write", "register"):
        lab.store.failures = {verb: ResourceExhausted(f"{verb}: no space left")}
        with pytest.raises(ResourceExhausted):
            await lab.commit(key)
        assert (lab.store.digests(NAMESPACE), lab.store.open) == (before, 0)
    lab.store.failures = {}
    await lab.commit(key)
    kept = lab.store.digests(NAMESPACE)
    lab.store.failures = {"register": ResourceExhausted("register: no space left")}
    with pytest.raises(ResourceExhausted):
        await lab.commit(key)
    assert lab.store.digests(NAMESPACE) == kept  # what was there before, from the commit that succeeded, stays


async def test_missing_part_of_the_image_below_is_told_before_any_work(lab: Lab) -> None:
    """Without one of the blobs of the image below nothing is written."""
    image, chain_id = await lab.image()
    key = await lab.active(chain_id, record_of(image, chain_id))
    for blob in (image.manifest, *image.blobs):
        digest = Digest(blob.digest.removeprefix("sha256:"))
        data = lab.store.blobs.pop((NAMESPACE, digest))
        before = lab.store.digests(NAMESPACE)
        with pytest.raises(FailedPrecondition, match="not in content any more"):
            await lab.commit(key)
        assert lab.store.digests(NAMESPACE) == before
        lab.store.blobs[NAMESPACE, digest_of(data)] = data


async def test_file_that_shrinks_has_the_layer_written_again(lab: Lab) -> None:
    """Twice is forgiven; a file that becomes shorter each time is named, and nothing is left."""
    image, chain_id = await lab.image()
    key = await lab.active(chain_id, record_of(image, chain_id))
    lab.differ.left = ATTEMPTS - 1
    await lab.commit(key)
    before = lab.store.digests(NAMESPACE)
    lab.differ.left = ATTEMPTS
    with pytest.raises(FailedPrecondition, match="log"):
        await lab.commit(key)
    assert (lab.store.digests(NAMESPACE), lab.store.open) == (before, 0)


class CollectedStore(MemoryStore):
    """Content that loses, before it answers, each blob that neither a name nor a lease keeps.

    Attributes:
        leases: a lease that names the manifest of a `known` image keeps all of that, by its labels.
    """

    def __init__(self, leases: MemoryLeases) -> None:
        super().__init__()
        self.leases = leases
        self.known: list[Image] = []

    async def has(self, namespace: str, digest: Digest) -> bool:
        """See `Store.has`."""
        self._collect()
        return await super().has(namespace, digest)

    async def read(self, namespace: str, digest: Digest) -> bytes:
        """See `Store.read`."""
        self._collect()
        return await super().read(namespace, digest)

    async def register(self, namespace: str, reference: str, target: Descriptor) -> str:
        """See `Store.register`; an image that isn't whole gets no name."""
        self._collect()
        manifest = parse_document(self.blobs[namespace, target.digest])
        assert isinstance(manifest, Manifest)
        assert {(namespace, blob.digest) for blob in (manifest.config, *manifest.layers)} <= self.blobs.keys()
        return await super().register(namespace, reference, target)

    def _collect(self) -> None:
        kept = {digest for held in self.leases.held.values() for digest in held}
        for image in self.known:
            if digest_of(image.manifest.data) in kept:
                kept |= {digest_of(blob.data) for blob in image.blobs}
        self.blobs = {place: data for place, data in self.blobs.items() if place[1] in kept}


@pytest.mark.parametrize("container", [True, False], ids=["container", "snapshot"])
async def test_commit_holds_what_the_new_image_is_made_of(lab: Lab, container: bool) -> None:
    """Whatever is collected meanwhile: the image below and each new blob are held until the image has its name."""
    store = lab.store = CollectedStore(lab.leases)
    lab.comparer = Comparer(lab.rig.snapshots, lab.differ, store)
    lab.committer = Committer(lab.comparer, store, ImageCache(lab.rig.database), default_platform())
    image, chain_id = await lab.image()
    store.known.append(image)
    manifest, _ = await lab.commit(await lab.active(chain_id, record_of(image, chain_id) if container else None))
    assert [str(layer.digest) for layer in manifest.layers][:-1] == layers_of(image)
    await until(lambda: not lab.leases.held, what="no lease is left")


@pytest.mark.parametrize("verb", ["write", "register"])
async def test_failed_commit_leaves_no_lease(lab: Lab, verb: str) -> None:
    """What a commit held is given free when it fails."""
    image, chain_id = await lab.image()
    lab.store.failures = {verb: ResourceExhausted(f"{verb}: no space left")}
    with pytest.raises(ResourceExhausted):
        await lab.commit(await lab.active(chain_id, record_of(image, chain_id)))
    assert lab.leases.log[0] == "refer"
    await until(lambda: not lab.leases.held, what="no lease is left")


async def test_commit_without_metadata_writes_nothing(lab: Lab) -> None:
    """When nothing can be held, a commit is refused before a layer is made."""
    image, chain_id = await lab.image()
    key = await lab.active(chain_id, record_of(image, chain_id))
    before, lab.leases.away = lab.store.digests(NAMESPACE), True
    with pytest.raises(Unavailable):
        await lab.commit(key)
    assert lab.store.digests(NAMESPACE) == before


async def test_layer_of_a_diff_is_held_a_while_for_who_asked(lab: Lab) -> None:
    """A layer that has no name is held as long as a lease lasts, so that whoever asked for it can read or keep it."""
    handlers = DiffHandlers(lab.comparer, lab.committer, lab.store, "h1", Holder(lab.leases))
    context = Context(NAMESPACE, "", "diff-1", "")
    made = await handlers.snapshot_diff(context, SnapshotDiff(key=await lab.active("")), lambda news: None)
    assert [str(digest) for digest in lab.leases.held[NAMESPACE, "diff-1"]] == [made.blob.digest]
    assert "remove" not in lab.leases.log
