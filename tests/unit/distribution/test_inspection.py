"""Looking into images: details, history, and whether all is here and sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, InvalidArgument, NotFound
from hythe.oci import Descriptor, HistoryStep, default_platform, parse_platform
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.checking import Checked, find_corrupt
from hythe_distribution.history import MISSING, Step, join
from hythe_distribution.names import dangling_reference
from scripts.lab.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Blob, index
from tests.unit.distribution.catalogue_bench import OTHER_ARCHITECTURE, Bench, bench, image_from, image_of, noise

APP, OTHER = "registry.example/app:1", "registry.example/other:1"
THERE = parse_platform(f"linux/{OTHER_ARCHITECTURE}")


@pytest.fixture
def on() -> Iterator[Bench]:
    """An empty catalogue."""
    with bench() as made:
        yield made


async def test_inspected_image_tells_everything_that_is_known(on: Bench) -> None:
    """Names, target, the config as it is, layers with their diff ids, and that nothing is missing."""
    image = image_of([noise(), noise()], labels={"team": "blue"})
    root = on.have(image, APP, OTHER)
    for text in (OTHER, root.hex[:12]):
        details = await on.catalogue.inspector.inspect("default", text, None)
        assert details.names == (APP, OTHER)
        assert details.listed.name.reference == (text if text == OTHER else APP)
        assert (details.target.digest, details.target.media_type) == (root, OCI_MANIFEST)
        assert json.loads(details.config) == json.loads(image.config.data)
        assert details.chosen.config is not None
        assert [str(layer) for layer in details.chosen.config.diff_ids] == [blob.digest for blob in image.layers]
        assert (details.chosen.missing, details.variants) == ((), (details.chosen,))
        assert details.chosen.present_bytes == details.chosen.size_bytes == sum(len(b.data) for b in image.blobs)


async def test_inspected_index_tells_what_is_here_of_each_platform(on: Bench) -> None:
    """Each manifest of an index has its presence; the platform picks which one is shown."""
    mine, other = image_of([noise()]), image_of([noise(), noise()], architecture=OTHER_ARCHITECTURE)
    absent = image_of([noise()], architecture="s390x")
    on.have(index([mine, other, absent]), APP)
    on.lose(other.layers[1], absent.manifest)
    details = await on.catalogue.inspector.inspect("default", APP, None)
    assert details.chosen.platform == default_platform()
    assert [variant.complete for variant in details.variants] == [True, False, False]
    assert [list(map(str, variant.missing)) for variant in details.variants] == [
        [],
        [other.layers[1].digest],
        [absent.manifest.digest],
    ]
    there = await on.catalogue.inspector.inspect("default", APP, THERE)
    assert there.chosen.platform == THERE
    assert json.loads(there.config)["architecture"] == OTHER_ARCHITECTURE
    with pytest.raises(NotFound) as raised:
        await on.catalogue.inspector.inspect("default", APP, parse_platform("linux/riscv64"))
    assert raised.value.details == {"kind": "platform"}


async def test_image_without_content_is_inspected_as_missing(on: Bench) -> None:
    """A name whose content is on no disk here still tells what it points to."""
    image = image_of([noise()])
    root = on.have(image, APP)
    on.lose(image.manifest)
    details = await on.catalogue.inspector.inspect("default", APP, None)
    assert (details.chosen.manifest, details.config, details.chosen.missing) == (None, "", (root,))


async def test_dangling_image_is_inspected_without_names(on: Bench) -> None:
    """An image without a name says that it is dangling."""
    image = image_of([noise()])
    root = on.have(image, str(dangling_reference(parse_digest(image.root.digest))))
    details = await on.catalogue.inspector.inspect("default", root.hex[:12], None)
    assert (details.names, details.listed.dangling) == ((), True)


HOSTILE = Blob(b'{"config": {"Labels": 7}}', OCI_CONFIG)


async def test_hostile_config_is_a_clear_error(on: Bench) -> None:
    """Where a list shows an incomplete image, looking into it says what is wrong and what can be done."""
    on.have(image_from(HOSTILE, []), APP)
    for question in (on.catalogue.inspector.inspect, on.catalogue.historian.tell):
        with pytest.raises(InvalidArgument) as raised:
            await question("default", APP, None)
        assert APP in raised.value.message
        assert "Labels" in raised.value.cause
        assert raised.value.next_step


async def test_config_changed_by_the_disk_is_a_clear_error(on: Bench) -> None:
    """Lost data is called so, not the image's fault."""
    image = image_of([noise()])
    on.have(image, APP)
    on.lose(image.config)
    on.content.add(parse_digest(image.config.digest), b"{}")
    for question in (on.catalogue.inspector.inspect, on.catalogue.historian.tell):
        with pytest.raises(DataLoss) as raised:
            await question("default", APP, None)
        assert image.config.digest in raised.value.cause
        assert "pull" in raised.value.next_step


async def test_history_has_the_newest_step_first_with_its_layer(on: Bench) -> None:
    """Each step shows what it left, and those that left nothing are marked."""
    image = image_of(
        [noise(100), noise(200)],
        [
            {"created": "2026-01-01T00:00:00Z", "created_by": "ADD base", "author": "Ada", "comment": "first"},
            {"created_by": "ENV A=1", "empty_layer": True},
            {"created_by": "COPY app"},
        ],
    )
    on.have(image, APP)
    history = await on.catalogue.historian.tell("default", APP, None)
    assert str(history.id) == image.config.digest
    assert [(step.told.created_by, step.layer and step.layer.size_bytes) for step in history.steps] == [
        ("COPY app", 200),
        ("ENV A=1", None),
        ("ADD base", 100),
    ]
    assert history.steps[-1].told == HistoryStep("2026-01-01T00:00:00Z", "ADD base", "Ada", "first", False)


async def test_history_of_a_platform_that_is_not_here_says_so(on: Bench) -> None:
    """What was not pulled has no history here; the error says how to get it."""
    both = index([image_of([noise()]), other := image_of([noise()], architecture=OTHER_ARCHITECTURE)])
    on.have(both, APP)
    on.lose(other.manifest)
    with pytest.raises(NotFound) as raised:
        await on.catalogue.historian.tell("default", APP, THERE)
    assert f"--platform {THERE}" in raised.value.next_step
    on.keep(other.manifest)
    on.lose(other.config)
    with pytest.raises(NotFound, match="config"):
        await on.catalogue.historian.tell("default", APP, THERE)


def layers(count: int) -> list[Descriptor]:
    """Return descriptors of so many layers."""
    return [Descriptor(OCI_LAYER, Digest(f"{number:064x}"), number) for number in range(count)]


MADE, EMPTY = HistoryStep(created_by="RUN"), HistoryStep(created_by="ENV", empty_layer=True)


@pytest.mark.parametrize(
    ("told", "count", "expected"),
    [
        ([], 0, []),
        ([], 2, [(MISSING, 1), (MISSING, 0)]),
        ([MADE], 2, [(MISSING, 1), ("RUN", 0)]),
        ([MADE, EMPTY], 3, [(MISSING, 2), (MISSING, 1), ("ENV", None), ("RUN", 0)]),
        ([MADE, MADE, MADE], 1, [("RUN", None), ("RUN", None), ("RUN", 0)]),
        ([EMPTY], 0, [("ENV", None)]),
    ],
)
def test_history_that_does_not_fit_the_layers_is_shown_as_far_as_it_goes(
    told: list[HistoryStep], count: int, expected: list[tuple[str, int | None]]
) -> None:
    """No layer is left out and none is shown twice, whatever an image claims about how it was made."""
    steps: tuple[Step, ...] = join(told, layers(count))
    assert [(step.told.created_by, step.layer.size_bytes if step.layer else None) for step in steps] == expected


async def check(on: Bench, *texts: str, verify: bool = False) -> tuple[Checked, ...]:
    """Check images."""
    return await on.catalogue.checker.check("default", texts, verify)


async def test_check_tells_what_is_missing(on: Bench) -> None:
    """An image that lost a layer is incomplete, with the layer's digest; one that has all is complete."""
    whole, broken = image_of([noise(10)]), image_of([noise(10), noise(20)])
    on.have(whole, APP)
    on.have(broken, OTHER)
    on.lose(broken.layers[1])
    first, second = await check(on)
    size_bytes = sum(len(blob.data) for blob in (whole.manifest, *whole.blobs))
    assert first == Checked(
        APP, parse_digest(whole.root.digest), str(default_platform()), True, 3, 3, size_bytes, size_bytes
    )
    assert (second.complete, second.blobs, second.present_blobs) == (False, 4, 3)
    assert second.size_bytes - second.present_bytes == 20
    assert [str(digest) for digest in second.missing] == [broken.layers[1].digest]
    assert [checked.reference for checked in await check(on, OTHER)] == [OTHER]


async def test_check_counts_platforms_that_were_brought(on: Bench) -> None:
    """A platform that was never pulled is not missing; one that was must be whole, though it is not what runs here."""
    mine, other = image_of([noise()]), image_of([noise(), noise()], architecture=OTHER_ARCHITECTURE)
    on.have(index([mine, other]), APP)
    on.lose(other.layers[0])
    (checked,) = await check(on)
    assert (checked.complete, [str(digest) for digest in checked.missing]) == (True, [other.layers[0].digest])
    on.lose(other.manifest, other.config, other.layers[1])
    (checked,) = await check(on)
    assert (checked.complete, checked.missing, checked.blobs) == (True, (), 4)


async def test_check_of_an_image_without_content_misses_its_root(on: Bench) -> None:
    """What is registered and not here at all is incomplete by its root."""
    image = image_of([noise()])
    root = on.have(image, APP)
    on.lose(image.manifest)
    (checked,) = await check(on)
    assert (checked.complete, checked.missing, checked.blobs) == (False, (root,), 1)
    assert (checked.size_bytes, checked.present_bytes) == (len(image.manifest.data), 0)


async def test_verified_check_finds_what_the_disk_has_changed(on: Bench) -> None:
    """Only reading all bytes finds a blob that is there and wrong; every image that has it says so."""
    shared = noise()
    first, second = image_of([shared, noise()]), image_of([shared])
    on.have(first, APP)
    on.have(second, OTHER)
    on.lose(first.layers[0])
    on.content.add(parse_digest(first.layers[0].digest), b"rotten")
    assert all(checked.complete and not checked.corrupt for checked in await check(on))
    for checked in await check(on, verify=True):
        assert (checked.complete, [str(digest) for digest in checked.corrupt]) == (False, [first.layers[0].digest])
        assert checked.missing == ()


async def test_check_of_an_unknown_image_is_not_found(on: Bench) -> None:
    """A misspelt name is no sound image."""
    with pytest.raises(NotFound):
        await check(on, APP)


def test_verifying_ends_when_nobody_waits(on: Bench) -> None:
    """Hashing stops when the caller goes."""
    image = image_of([noise()])
    on.have(image)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        find_corrupt(on.content, [parse_digest(blob.digest) for blob in image.blobs], cancellation)


def test_blob_that_goes_while_verifying_is_not_called_corrupt(on: Bench) -> None:
    """A deletion in between is no damage."""
    image = image_of([noise()])
    on.have(image)
    on.lose(*image.blobs)
    digests: list[Any] = [parse_digest(blob.digest) for blob in image.blobs]
    assert find_corrupt(on.content, digests, Cancellation()) == frozenset()
