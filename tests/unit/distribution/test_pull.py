"""Pulls and resolves on an in-memory registry and store: what is fetched, what is registered, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hythe.digest import parse_digest
from hythe.errors import Conflict, DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from hythe.holding import Holder
from hythe.oci import Platform, default_platform, parse_platform
from hythe.reference import Reference, parse_reference
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.bringing import Bringer
from hythe_distribution.fetcher import BlobProgress, Fetcher
from hythe_distribution.hosts import source_of
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolved, Resolver
from hythe_distribution.workers import Workers
from scripts.lab.images import Blob, Image, ImageBuilder, Index, Layer, encode, index
from tests.fakes.faults import both_manifest_and_index, with_fields
from tests.fakes.fetching import RULES, Counts
from tests.fakes.gated_registry import GatedRegistry
from tests.fakes.leases import MemoryLeases
from tests.fakes.names import Names
from tests.fixtures.waiting import eventually_async
from tests.unit.distribution.catalogue_bench import describe

REFERENCE = parse_reference("registry.example/app:1")
SOURCE = source_of(REFERENCE, False)
OTHER_ARCHITECTURE = "arm64" if default_platform().architecture == "amd64" else "amd64"


def an_image(architecture: str | None = None, layers: int = 3, name: str = "") -> Image:
    """Return an image whose layers are `layers` directories."""
    builder = ImageBuilder() if architecture is None else ImageBuilder(architecture=architecture)
    for i in range(layers):
        builder = builder.layer(Layer().directory(f"{name}{i}"), "none")
    return builder.build()


class SmallContent(MemoryContent):
    """A store that has room for `room_bytes` at a time."""

    room_bytes = 1 << 30

    def check_room(self, size_bytes: int) -> None:
        """See `hythe.ports.content.Content.check_room`."""
        if size_bytes > self.room_bytes:
            raise ResourceExhausted(f"take in {size_bytes} bytes: there is room for {self.room_bytes}")


class Bench:
    """A puller with all that it works with."""

    def __init__(self) -> None:
        self.registry = GatedRegistry()
        self.content = SmallContent()
        self.names, self.leases = Names(), MemoryLeases()
        self.downloads, self.questions = Workers("download", 3), Workers("question", 4)
        self.fetcher = Fetcher(self.registry, self.content, self.downloads, self.questions, Counts(), RULES)
        self.records = MemoryRecords()
        resolver = Resolver(self.registry, self.content, self.questions)
        self.puller = Puller(
            resolver,
            Bringer(self.fetcher, resolver, self.questions),
            Referrers(self.registry, resolver, self.questions),
            self.content,
            Publisher(self.content, self.records, self.questions, Library(self.content, self.records).publish),
            self.names,
            None,
            self.questions,
        )
        self.seen: list[Resolved | BlobProgress] = []

    def serve(self, image: Image | Index, reference: Reference = REFERENCE) -> None:
        """Serve an image by the tag and the digest of its root."""
        source = source_of(reference, False)
        for blob in image.blobs:
            self.registry.serve(source, blob.data)
        for manifest in image.manifests:
            self.registry.tag(source, manifest.digest, manifest.media_type, manifest.data)
        self.registry.tag(source, reference.version, image.root.media_type, image.root.data)

    async def pull(self, platform: Platform | None = None, reference: Reference = REFERENCE) -> Any:
        """Pull an image into the namespace ``default``."""
        async with Holder(self.leases).hold("default", "pull") as held:
            return await self.puller.pull("default", Wish(reference, platform), held, self.seen.append)

    async def told(self) -> None:
        """Wait for the first news of a pull."""

        async def any_news() -> bool:
            return bool(self.seen)

        await eventually_async(any_news, what="the pull resolved its image")

    def digests(self) -> set[str]:
        """Return the digests of all blobs in the store."""
        return {str(info.digest) for info in self.content.walk()}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A puller on an in-memory store and registry."""
    made = Bench()
    yield made
    await made.fetcher.close()
    made.downloads.close()
    made.questions.close()


async def test_pulled_image_is_whole_and_has_its_name(bench: Bench) -> None:
    """Manifest, config and every layer are in the store, and the name points to the root."""
    image = an_image()
    bench.serve(image)
    pulled = await bench.pull()
    assert bench.digests() == {image.manifest.digest, *(blob.digest for blob in image.blobs)}
    assert bench.names.records["default", str(REFERENCE)].digest == parse_digest(image.root.digest)
    assert pulled.fetched_bytes == sum(len(layer.data) for layer in image.layers)
    assert str(pulled.image.chosen.config.digest) == image.config.digest
    assert describe(bench.content, parse_digest(image.root.digest)).complete


async def test_resolved_image_is_told_before_its_layers(bench: Bench) -> None:
    """The first news is the resolved image, once manifest and config are readable; each layer ends as fetched."""
    image = an_image()
    bench.serve(image)
    bench.registry.gate.clear()
    pulling = asyncio.create_task(bench.pull())
    await bench.told()
    resolved = bench.seen[0]
    assert isinstance(resolved, Resolved)
    assert {image.manifest.digest, image.config.digest} <= bench.digests()
    assert bench.names.records == {}
    bench.registry.gate.set()
    await pulling
    last = {str(news.digest): news.state for news in bench.seen if isinstance(news, BlobProgress)}
    assert last == {layer.digest: "fetched" for layer in image.layers}
    assert sum(isinstance(news, Resolved) for news in bench.seen) == 1


async def test_second_pull_fetches_nothing(bench: Bench) -> None:
    """What is here is found by digest and not fetched again."""
    bench.serve(an_image())
    await bench.pull()
    opened = len(bench.registry.opened)
    bench.seen.clear()
    assert (await bench.pull()).fetched_bytes == 0
    assert len(bench.registry.opened) == opened
    assert {news.state for news in bench.seen if isinstance(news, BlobProgress)} == {"exists"}


async def test_layer_that_stands_twice_is_fetched_once(bench: Bench) -> None:
    """An image may use one layer several times."""
    layer = Layer().directory("same")
    image = ImageBuilder().layer(layer).layer(layer).build()
    bench.serve(image)
    await bench.pull()
    assert len(bench.registry.opened) == 2
    assert describe(bench.content, parse_digest(image.root.digest)).complete


async def test_index_gives_the_manifest_for_the_platform(bench: Bench) -> None:
    """Of an index only the wanted platform's content comes; the name points to the index."""
    mine, other = an_image(name="mine"), an_image(OTHER_ARCHITECTURE, name="other")
    both = index([other, mine])
    bench.serve(both)
    pulled = await bench.pull()
    assert str(pulled.image.chosen.manifest.digest) == mine.manifest.digest
    assert bench.digests() == {both.root.digest, mine.manifest.digest, *(blob.digest for blob in mine.blobs)}
    assert bench.names.records["default", str(REFERENCE)].digest == parse_digest(both.root.digest)
    wanted = parse_platform(f"linux/{OTHER_ARCHITECTURE}")
    assert str((await bench.pull(wanted)).image.chosen.manifest.digest) == other.manifest.digest


async def test_nested_index_is_followed_but_not_for_ever(bench: Bench) -> None:
    """An index may point to an index; a deep chain of them is refused."""
    inner = index([an_image()])
    nested: Index = inner
    for depth in range(4):
        entry = nested.root.descriptor()
        root = Blob(encode({"schemaVersion": 2, "manifests": [entry]}), nested.root.media_type)
        nested = Index(root, nested.images)
        bench.registry.tag(SOURCE, root.digest, root.media_type, root.data)
        bench.serve(inner)
        bench.registry.tag(SOURCE, "1", root.media_type, root.data)
        if depth < 2:
            await bench.pull()
    with pytest.raises(InvalidArgument) as raised:
        await bench.pull()
    assert "nested" in raised.value.message


async def test_missing_platform_is_not_found_and_leaves_nothing(bench: Bench) -> None:
    """An image without a manifest for the platform is refused before anything is stored."""
    for image in (index([an_image(OTHER_ARCHITECTURE)]), an_image(OTHER_ARCHITECTURE)):
        bench.serve(image)
        with pytest.raises(NotFound) as raised:
            await bench.pull()
        assert raised.value.details == {"kind": "platform"}
        assert OTHER_ARCHITECTURE in raised.value.message
        assert bench.digests() == set()


async def test_config_without_a_platform_runs_anywhere(bench: Bench) -> None:
    """Old images don't say what they run on; they are taken for what was asked for."""
    image = an_image("")
    bench.serve(image)
    assert (await bench.pull()).image.chosen.platform == default_platform()


async def test_unknown_image_is_not_found(bench: Bench) -> None:
    """A tag that the registry doesn't have is NotFound of kind image."""
    with pytest.raises(NotFound) as raised:
        await bench.pull()
    assert raised.value.details == {"kind": "image"}


async def test_digest_that_is_here_needs_no_registry(bench: Bench) -> None:
    """A reference by digest whose content is here resolves without asking anybody."""
    image = an_image()
    bench.serve(image)
    await bench.pull()
    by_digest = parse_reference(f"other.example/app@{image.root.digest}")
    assert (await bench.pull(reference=by_digest)).fetched_bytes == 0
    assert bench.names.records["default", str(by_digest)].digest == parse_digest(image.root.digest)


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_image_with_a_missing_layer_gets_no_name(bench: Bench, missing: int) -> None:
    """Nothing is registered unless every blob arrived."""
    image = an_image()
    bench.serve(image)
    bench.registry.serve(SOURCE, image.layers[missing].data, instead=NotFound("fetch: not here"))
    with pytest.raises(NotFound):
        await bench.pull()
    assert bench.names.records == {}


async def test_image_with_a_lying_layer_gets_no_name(bench: Bench) -> None:
    """Wrong bytes in one layer fail the pull, and what was wrong is nowhere."""
    image = an_image()
    bench.serve(image)
    bench.registry.serve(SOURCE, image.layers[1].data, instead=b"x" * len(image.layers[1].data))
    with pytest.raises(DataLoss):
        await bench.pull()
    assert bench.names.records == {}
    assert image.layers[1].digest not in bench.digests()


async def test_failed_layer_stops_the_others(bench: Bench) -> None:
    """When one layer cannot come, the pull ends at once, not after all the others."""
    image = an_image()
    bench.serve(image)
    largest = max(image.layers, key=lambda layer: len(layer.data))
    bench.registry.serve(SOURCE, largest.data, instead=Unavailable("fetch: broken"))
    with pytest.raises(Unavailable):
        await bench.pull()
    await bench.fetcher.close()
    assert bench.registry.running == 0


def _config_with(image: Image, **fields: Any) -> Image:
    config = Blob(encode({**json.loads(image.config.data), **fields}), image.config.media_type)
    manifest = with_fields(image.manifest, config=config.descriptor())
    return Image(manifest, (config, *image.layers), image.os, image.architecture)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda image: Image(both_manifest_and_index(image), image.blobs, image.os, image.architecture), "both"),
        (lambda image: _config_with(image, rootfs={"type": "layers", "diff_ids": []}), "diff ids"),
        (lambda image: _config_with(image, config={"Env": 1}), "Env"),
        (
            lambda image: Image(
                with_fields(image.manifest, config=Blob(image.config.data, "application/vnd.helm").descriptor()),
                image.blobs,
                image.os,
                image.architecture,
            ),
            "no container image",
        ),
        (
            lambda image: Image(
                with_fields(image.manifest, config={**image.config.descriptor(), "size": 5 << 20}),
                image.blobs,
                image.os,
                image.architecture,
            ),
            "config",
        ),
    ],
)
async def test_broken_image_is_refused_and_leaves_nothing(
    bench: Bench, spoil: Callable[[Image], Image], text: str
) -> None:
    """A document that is hostile or no image is refused before anything of the image is stored."""
    bench.serve(spoil(an_image()))
    with pytest.raises(InvalidArgument) as raised:
        await bench.pull()
    assert text in raised.value.message
    assert bench.digests() == set()
    assert bench.names.records == {}


async def test_manifest_whose_size_is_a_lie_is_refused(bench: Bench) -> None:
    """An index that promises another size than its manifest has is not believed."""
    image = an_image()
    entry = {**image.manifest.descriptor(platform={"os": "linux", "architecture": image.architecture}), "size": 5}
    root = Blob(encode({"schemaVersion": 2, "manifests": [entry]}), index([image]).root.media_type)
    bench.serve(image)
    bench.registry.tag(SOURCE, "1", root.media_type, root.data)
    with pytest.raises(DataLoss):
        await bench.pull()
    assert bench.digests() == set()


async def test_no_room_is_said_before_the_first_layer(bench: Bench) -> None:
    """A pull that cannot end well fetches no layer, and no name is registered."""
    image = an_image()
    bench.serve(image)
    bench.content.room_bytes = sum(len(layer.data) for layer in image.layers) - 1
    with pytest.raises(ResourceExhausted):
        await bench.pull()
    assert [digest for _, digest in bench.registry.opened] == [parse_digest(image.config.digest)]
    assert bench.names.records == {}


async def test_pull_without_metadata_fails_before_the_registry_is_asked(bench: Bench) -> None:
    """Where names cannot be kept, nothing is fetched, and the error names metadata."""
    bench.serve(an_image())
    bench.names.away = True
    with pytest.raises(Unavailable) as raised:
        await bench.pull()
    assert raised.value.service == "metadata"
    assert bench.digests() == set()


async def test_older_resolve_never_overwrites_a_newer_one(bench: Bench) -> None:
    """When the name was changed while a pull ran, the registry is asked again, and its present answer is registered."""
    old, new = an_image(name="old"), an_image(name="new")
    bench.serve(old)

    def faster() -> None:
        bench.names.before_put = lambda: None
        bench.serve(new)
        bench.names.point("default", REFERENCE, parse_digest("sha256:" + "1" * 64))

    bench.names.before_put = faster
    pulled = await bench.pull()
    assert str(pulled.image.target.digest) == new.root.digest
    assert bench.names.records["default", str(REFERENCE)].digest == parse_digest(new.root.digest)
    assert sum(isinstance(news, Resolved) for news in bench.seen) == 1


async def test_two_pulls_of_one_image_both_succeed(bench: Bench) -> None:
    """When another pull registered the same content first, that is as good as one's own."""
    bench.serve(an_image())
    await asyncio.gather(bench.pull(), bench.pull(), bench.pull())
    assert len({digest for _, digest in bench.registry.opened}) == len(bench.digests()) - 1


async def test_name_that_is_changed_again_and_again_is_a_conflict(bench: Bench) -> None:
    """After three tries the pull gives up and says so, and leaves the name to the others."""
    bench.serve(an_image())
    theirs = parse_digest("sha256:" + "1" * 64)
    bench.names.before_put = lambda: bench.names.point("default", REFERENCE, theirs)
    with pytest.raises(Conflict):
        await bench.pull()
    assert bench.names.records["default", str(REFERENCE)].digest == theirs


async def test_cancelled_pull_stops_its_downloads(bench: Bench) -> None:
    """A pull that nobody follows any more stops working, and no name is registered."""
    bench.serve(an_image())
    bench.registry.gate.clear()
    pulling = asyncio.create_task(bench.pull())
    await bench.told()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    await bench.fetcher.close()
    assert bench.registry.running == 0
    assert bench.names.records == {}
