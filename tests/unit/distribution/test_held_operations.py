"""Reference before presence, on a store from which all that nothing refers to goes before each single question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, FailedPrecondition, HytheError, NotFound, Unavailable
from hythe.holding import Held, Holder
from hythe.ports.content import BlobInfo, Ingest
from hythe.reference import parse_reference
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.artifacts import ArtifactFetcher
from hythe_distribution.catalogue import catalogue
from hythe_distribution.claiming import NameRecord
from hythe_distribution.copying import CopyOrder
from hythe_distribution.names import Naming
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.push import Order
from hythe_distribution.records import Publication
from hythe_distribution.registering import Registrar
from scripts.lab.images import Image, Index
from tests.fakes.names import MemoryNames
from tests.fixtures.waiting import until
from tests.unit.distribution.catalogue_bench import target_of
from tests.unit.distribution.transfers import (
    OTHER_ARCHITECTURE,
    REFERENCE,
    SOURCE,
    Transfers,
    an_image,
    artifact,
    digest,
    digests,
    index_of,
)

THERE = parse_reference("other.example/there:2")
GC_REFERENCE = "containerd.io/gc.ref."
ARTIFACT_TYPE = "application/vnd.example"


class CollectedContent(MemoryContent):
    """A store that loses, before it answers a question, each blob that `kept` doesn't say is kept.

    Attributes:
        early: blobs that were asked for or brought while nothing kept them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: Callable[[Digest], bool] = lambda digest: True
        self.early: set[Digest] = set()

    def info(self, digest: Digest) -> BlobInfo:
        """See `hythe.ports.content.Content.info`."""
        self._collect()
        if not self.kept(digest):
            self.early.add(digest)
        return super().info(digest)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.content.Content.read`."""
        self._collect()
        return super().read(digest, offset, length)

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> Ingest:
        """See `hythe.ports.content.Content.open_ingest`."""
        self._collect()
        return super().open_ingest(reference, total_bytes=total_bytes, resume=resume)

    def put(self, image: Image | Index) -> None:
        """Have all of an image, as one that was removed and isn't collected yet."""
        for blob in (*image.blobs, *image.manifests):
            self.add(digest(blob), blob.data)

    def _collect(self) -> None:
        for blob in list(self.walk()):
            if not self.kept(blob.digest):
                try:
                    self.delete(blob.digest)
                except NotFound:
                    pass  # another thread was faster


class Collected(Transfers):
    """Transfers on a store that is collected all the time: what leases, names and what these refer to keep is kept."""

    def __init__(self) -> None:
        self.store = CollectedContent()
        super().__init__(self.store)
        self.image_names = MemoryNames()
        self.image_names.on_lease = self.leases.end_with_name

    def begin(self) -> None:
        """Collect from now on."""
        self.store.kept = self.keeps

    def keeps(self, wanted: Digest) -> bool:
        """Tell whether something keeps a blob."""
        return self.leases.keeps(wanted) or wanted in self.named()

    def named(self) -> set[Digest]:
        """Return what names keep, by the labels that blobs have in the namespace."""
        roots = [record.digest for record in tuple(self.names.records.values()) if record.digest]
        roots += [record.digest for record in tuple(self.image_names.records.values())]
        found: set[Digest] = set()
        while roots:
            root = roots.pop()
            if root not in found:
                found.add(root)
                roots += self._below(root)
        return found

    def _below(self, parent: Digest) -> list[Digest]:
        try:
            labels = self.records.get("default", parent).labels
        except NotFound:
            return []
        return [parse_digest(value) for key, value in labels.items() if key.startswith(GC_REFERENCE)]

    async def held(self, work: Callable[[Held], Coroutine[Any, Any, Any]]) -> Any:
        """Run `work` under a lease of its own."""
        async with self.holder.hold("default", "operation") as held:
            return await work(held)

    async def no_lease(self) -> None:
        """Return once no lease is left, and nobody renews one."""

        def gone() -> bool:
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == "renew-lease"]
            return not self.leases.held and not tasks

        await until(gone, what="no lease is left")

    async def fetch(self) -> Any:
        """Fetch an artifact."""
        fetcher = ArtifactFetcher(
            self.resolver,
            self.bringer,
            self.content,
            self.publisher,
            self.names,
            None,
            self.workers["question"],
        )
        return await self.held(
            lambda held: fetcher.fetch("default", REFERENCE, ARTIFACT_TYPE, False, held, self.news.append)
        )

    async def copy(self, **order: Any) -> Any:
        """Copy an image elsewhere."""
        wish = CopyOrder(REFERENCE, THERE, **order)
        return await self.held(lambda held: self.copier.copy("default", wish, held, self.sends.append))

    async def register(self, image: Image) -> Any:
        """Give an image that is in the namespace's content a name."""
        questions = self.workers["question"]
        listing = catalogue(Naming(self.image_names), self.content, questions).listing
        registrar = Registrar(self.library, self.content, self.publisher, listing, questions)
        root = target_of(image.root)
        return await self.held(lambda held: registrar.register("default", REFERENCE, root, held))


@pytest.fixture
async def collected() -> AsyncIterator[Collected]:
    """Transfers on a store that is collected all the time."""
    made = Collected()
    made.begin()
    yield made
    await made.close()


def put_removed(collected: Collected, image: Image | Index) -> None:
    """Have all of an image in the store that nothing refers to, and serve it."""
    collected.serve(image)
    collected.store.put(image)


async def test_pull_relies_on_nothing_that_it_has_not_referred_to(collected: Collected) -> None:
    """What is left of an image that was removed may go at any moment of a pull: all is there in the end, at one go."""
    image = an_image("app")
    put_removed(collected, image)
    pulled = await collected.pull()
    assert collected.here() == digests(image) == collected.visible()
    assert pulled.fetched_bytes == sum(len(layer.data) for layer in image.layers)
    assert collected.leases.log == ["refer", "end with name"]
    assert collected.store.early.isdisjoint(map(digest, image.layers))
    await collected.no_lease()


async def test_pull_of_several_platforms_and_signatures_is_held_whole(collected: Collected) -> None:
    """An index is referred to with all its manifests in one transaction, and what is about it in one more."""
    images = [an_image("go", OTHER_ARCHITECTURE), an_image("come")]
    both = index_of([*images, artifact("attestation")])
    signature = artifact("signature", both.root)
    put_removed(collected, both)
    collected.store.put(signature)
    collected.serve_referrer(signature, both.root)
    await collected.pull(all_platforms=True, referrers=True)
    assert collected.here() == digests(both) | digests(signature)
    assert collected.leases.log == ["refer", "refer", "end with name"]
    await collected.no_lease()


async def test_pull_of_an_image_that_is_here_asks_metadata_once_more(collected: Collected) -> None:
    """A pull that brings nothing new costs one reference; its lease ends when the answer is already given."""
    collected.serve(an_image("app"))
    await collected.pull()
    collected.leases.log.clear()
    assert (await collected.pull()).fetched_bytes == 0
    assert collected.leases.log == ["refer"]
    await collected.no_lease()
    assert collected.leases.log == ["refer", "remove"]


async def test_image_untagged_and_collected_while_it_is_pulled_again_is_whole(collected: Collected) -> None:
    """The name may go in the middle of a pull that has found it: until the pull has ended, its lease keeps the image."""
    image = an_image("app")
    collected.serve(image)
    await collected.pull()
    collected.leases.on_refer = lambda contents: collected.names.records.clear()
    async with collected.holder.hold("default", "again") as held:
        await collected.puller.pull("default", Wish(REFERENCE), held, collected.news.append)
        assert collected.here() == digests(image)


async def test_nothing_is_stored_before_the_reference_is_acknowledged(collected: Collected) -> None:
    """While metadata has not answered, no document, config or layer is brought to the store."""
    collected.serve(an_image("app"))
    here: list[set[Digest]] = []
    collected.leases.on_refer = lambda contents: here.append(collected.here())
    await collected.pull()
    assert here == [set()]


async def test_pull_without_metadata_brings_nothing(collected: Collected) -> None:
    """When nothing can be referred to, a pull is refused as Unavailable: no layer is fetched and nothing is stored."""
    image = an_image("app")
    collected.serve(image)
    collected.leases.away = True
    with pytest.raises(Unavailable):
        await collected.pull()
    assert (collected.here(), collected.names.records) == (set(), {})
    assert {opened for _, opened in collected.registry.opened}.isdisjoint(map(digest, image.layers))


async def test_failed_pull_leaves_no_lease(collected: Collected) -> None:
    """A layer that the registry spoils fails the pull, and nothing is held any longer."""
    image = an_image("app")
    collected.serve(image)
    collected.registry.serve(SOURCE, image.layers[0].data, instead=DataLoss("fetch: spoilt"))
    with pytest.raises(HytheError):
        await collected.pull()
    await collected.no_lease()
    assert collected.names.records == {}


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_pull_cancelled_at_any_point_leaves_no_lease(collected: Collected, steps: int) -> None:
    """Who gives up a pull, early or late, leaves nothing held."""
    collected.serve(an_image("app"))
    pulling = asyncio.create_task(collected.pull())
    for _ in range(steps):
        await asyncio.sleep(0)
    pulling.cancel()
    await asyncio.wait([pulling])
    await collected.no_lease()


async def test_long_download_keeps_its_lease(collected: Collected) -> None:
    """As long as a layer is on its way, its lease is renewed, and goes when the image has its name."""
    image = an_image("app")
    collected.serve(image)
    collected.holder = Holder(collected.leases, duration_s=0.06)
    collected.registry.gate.clear()
    pulling = asyncio.create_task(collected.pull())
    await until(lambda: collected.leases.log.count("renew") >= 3, what="the lease was renewed")
    assert collected.registry.running
    collected.registry.gate.set()
    await pulling
    await collected.no_lease()
    assert collected.here() == digests(image)


async def test_lease_lost_before_the_image_has_its_name_has_all_done_again(collected: Collected) -> None:
    """Where the lease ran out unseen, say while the host slept, what went meanwhile is brought again before the name."""
    image, times = an_image("app"), [0.0]
    collected.serve(image)
    collected.store.kept = lambda wanted: True

    def publish(namespace: str, blobs: Sequence[Publication]) -> None:
        collected.library.publish(namespace, blobs)
        if not times[0]:
            times[0] = 61.0
            collected.leases.on_refer = collect

    def collect(contents: Any) -> None:
        collected.store.delete(digest(image.layers[0]))
        collected.leases.on_refer = lambda contents: None

    questions = collected.workers["question"]
    puller = Puller(
        collected.resolver,
        collected.bringer,
        collected.referrers,
        collected.content,
        Publisher(collected.content, collected.records, questions, publish),
        collected.names,
        None,
        questions,
    )
    async with Holder(collected.leases, clock=lambda: times[0]).hold("default", "pull") as held:
        await puller.pull("default", Wish(REFERENCE), held, collected.news.append)
    assert collected.leases.log == ["refer", "refer", "refer", "end with name"]
    assert collected.here() == digests(image)


async def test_copy_relies_on_nothing_that_it_has_not_referred_to(collected: Collected) -> None:
    """What is left in the store of the image that is copied may go at any moment, and the copy arrives whole."""
    image = an_image("app")
    signature = artifact("signature", image.root)
    put_removed(collected, image)
    collected.serve_referrer(signature, image.root)
    copied = await collected.copy(referrers=True)
    assert copied.digest == digest(image.root)
    assert collected.leases.log == ["refer"]
    assert collected.store.early.isdisjoint(map(digest, image.layers))
    await collected.no_lease()


async def test_artifact_relies_on_nothing_that_it_has_not_referred_to(collected: Collected) -> None:
    """An artifact is held as an image is, and its name ends the lease."""
    thing = artifact("thing")
    put_removed(collected, thing)
    await collected.fetch()
    assert collected.here() == digests(thing) == collected.visible()
    assert collected.leases.log == ["refer", "end with name"]
    await collected.no_lease()


async def test_image_whose_last_name_goes_while_it_is_pushed_arrives_whole(collected: Collected) -> None:
    """A push holds the image from before it looks what is here of it."""
    image = an_image("app")
    collected.serve(image)
    await collected.pull()

    def held(wanted: Digest) -> bool:  # the root is leased, and the labels that it has in the namespace keep the rest
        return ("default", "operation") in collected.leases.held and wanted in digests(image)

    def untag(contents: Any) -> None:
        collected.store.kept = held
        collected.names.records.clear()

    collected.leases.on_refer = untag
    order = Order(str(REFERENCE), str(THERE))
    pushed = await collected.held(lambda held: collected.pusher.push("default", order, held, collected.sends.append))
    assert pushed.digest == digest(image.root)
    assert collected.leases.log[-1] == "refer"
    await collected.no_lease()


async def test_registered_image_is_looked_at_once_more_after_it_is_referred_to(collected: Collected) -> None:
    """What was there when an image was looked at and isn't when it is referred to gives it no name."""
    image = an_image("app")
    collected.store.kept = lambda wanted: True
    collected.store.put(image)
    for blob in (*image.blobs, *image.manifests):
        collected.library.publish("default", [Publication(digest(blob), len(blob.data))])
    collected.leases.on_refer = lambda contents: collected.store.delete(digest(image.layers[0]))
    with pytest.raises(FailedPrecondition, match="deleted meanwhile"):
        await collected.register(image)
    await collected.no_lease()
    assert collected.image_names.names() == {}
    collected.leases.on_refer = lambda contents: None
    collected.store.put(image)
    await collected.register(image)
    assert collected.image_names.names() == {str(REFERENCE): image.root.digest}
    await collected.no_lease()


async def test_name_record_of_a_pull_ends_its_lease_in_one_transaction(collected: Collected) -> None:
    """Between lease and name there is no moment in which nothing keeps the image."""
    image = an_image("app")
    collected.serve(image)
    seen: list[tuple[bool, NameRecord | None]] = []

    def look() -> None:
        seen.append(
            (collected.leases.keeps(digest(image.root)), collected.names.records.get(("default", str(REFERENCE))))
        )

    collected.names.before_put = look
    await collected.pull()
    assert seen == [(True, None)]
    assert collected.here() == digests(image)
