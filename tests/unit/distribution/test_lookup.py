"""Finding, listing and tagging images, on content and names in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe_distribution.listing import ListedImage
from hythe_distribution.names import dangling_reference
from scripts.lab.images import OCI_MANIFEST, Image, index
from tests.fakes.leases import MemoryLeases, a_hold
from tests.unit.distribution.catalogue_bench import (
    OTHER_ARCHITECTURE,
    Bench,
    bench,
    image_of,
    noise,
    target_of,
)

APP, APP_2, OTHER = "registry.example/app:1", "registry.example/app:2", "registry.example/other:1"
BUSYBOX = "docker.io/library/busybox:latest"


@pytest.fixture
def on() -> Iterator[Bench]:
    """An empty catalogue."""
    with bench() as made:
        yield made


async def find(on: Bench, text: str) -> tuple[str, str]:
    """Return the reference and root that `text` means."""
    found = await on.catalogue.lookup.find("default", text)
    assert found.target.digest == found.digest
    return str(found.reference), str(found.digest)


async def test_image_is_found_by_whatever_people_write(on: Bench) -> None:
    """A short or full name, a digest, a whole id or its beginning, with or without ``sha256:``, all mean the image."""
    image = image_of([noise()])
    root = str(on.have(image, BUSYBOX))
    on.have(image_of([noise()]), OTHER)
    config = image.config.digest.removeprefix("sha256:")
    for text in (
        "busybox",
        BUSYBOX,
        f"busybox@{root}",
        f"busybox:latest@{root}",
        root,
        root.removeprefix("sha256:"),
        root[:19],
        root[7:19],
        config,
        config[:12],
        f"sha256:{config[:12]}",
        image.config.digest,
    ):
        assert await find(on, text) == (BUSYBOX, root), text


async def test_digest_counts_in_its_own_repository_only(on: Bench) -> None:
    """``app@sha256:…`` never means the same bytes under the name of another repository."""
    root = str(on.have(image_of([noise()]), APP))
    assert await find(on, f"registry.example/app@{root}") == (APP, root)
    with pytest.raises(NotFound):
        await find(on, f"registry.example/other@{root}")


async def test_image_of_an_index_is_found_by_each_platforms_config(on: Bench) -> None:
    """Whichever platform's id was shown, it leads to the image."""
    both = index([image_of([noise()]), image_of([noise()], architecture=OTHER_ARCHITECTURE)])
    root = str(on.have(both, APP))
    for image in both.images:
        assert await find(on, image.config.digest[7:27]) == (APP, root)


async def test_name_wins_over_an_id(on: Bench) -> None:
    """As with Docker, a name that looks like the beginning of an id is a name."""
    root = str(on.have(image_of([noise()]), OTHER))
    digits = root[7:15]
    assert await find(on, digits) == (OTHER, root)
    named = str(on.have(image_of([noise()]), f"docker.io/library/{digits}:latest"))
    assert await find(on, digits) == (f"docker.io/library/{digits}:latest", named)
    assert await find(on, f"sha256:{digits}") == (OTHER, root)


def images_that_begin_alike() -> tuple[Image, Image]:
    """Return two images whose roots begin with the same four digits."""
    seen: dict[str, Image] = {}
    while True:
        image = image_of([noise(8)])
        start = image.manifest.digest[7:11]
        if start in seen:
            return seen[start], image
        seen[start] = image


async def test_ambiguous_id_names_the_candidates(on: Bench) -> None:
    """A beginning that fits two images picks neither; the message names both, and one digit more decides."""
    first, second = images_that_begin_alike()
    on.have(first, APP)
    on.have(second, OTHER)
    with pytest.raises(InvalidArgument) as raised:
        await find(on, first.manifest.digest[7:11])
    assert APP in raised.value.message
    assert OTHER in raised.value.message
    assert raised.value.next_step
    assert (await find(on, first.manifest.digest[7:27]))[0] == APP


@pytest.mark.parametrize("text", ["nothing", "registry.example/nothing:1", "abcd1234", "sha256:abcd", "f" * 64])
async def test_unknown_image_is_not_found_with_a_way_on(on: Bench, text: str) -> None:
    """The error is of kind image and says how to get one."""
    on.have(image_of([noise()]), APP)
    with pytest.raises(NotFound) as raised:
        await find(on, text)
    assert raised.value.details["kind"] == "image"
    assert "hythe" in raised.value.next_step


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "abc!", "x" * 600, "sha512:ab"])
async def test_what_is_neither_name_nor_id_is_refused(on: Bench, text: str) -> None:
    """Nonsense is called so, or is simply no image; nothing breaks."""
    with pytest.raises((InvalidArgument, NotFound)):
        await find(on, text)


async def test_image_of_another_namespace_is_not_found(on: Bench) -> None:
    """Names and ids of one namespace mean nothing in another."""
    root = on.have(image_of([noise()]), APP, namespace="other")
    for text in (APP, str(root), root.hex[:12]):
        with pytest.raises(NotFound):
            await find(on, text)


async def test_dangling_image_is_found_by_its_id(on: Bench) -> None:
    """An image that lost its name can still be meant."""
    image = image_of([noise()])
    root = on.have(image, str(dangling_reference(Digest(image.manifest.digest[7:]))))
    assert (await find(on, root.hex[:12]))[1] == str(root)


async def test_list_tells_dangling_images_from_superfluous_names(on: Bench) -> None:
    """What lost its last name is shown as dangling; a dangling name left beside another is not shown."""
    lost, kept = image_of([noise()]), image_of([noise()])
    on.have(lost, str(dangling_reference(Digest(lost.manifest.digest[7:]))))
    on.have(kept, APP, str(dangling_reference(Digest(kept.manifest.digest[7:]))))
    page = await on.catalogue.listing.page("default", "", 200)
    assert [(image.name.reference == APP, image.dangling) for image in page.images] == [(False, True), (True, False)]


async def test_list_comes_in_pages(on: Bench) -> None:
    """Each name is in one page, with what is here of it."""
    for number in range(5):
        on.have(image_of([noise()]), f"registry.example/app:{number}")
    seen, after = [], ""
    while True:
        page = await on.catalogue.listing.page("default", after, 2)
        seen += [image.name.reference for image in page.images]
        assert all(image.content.complete for image in page.images)
        if not (after := page.next):
            break
    assert seen == [f"registry.example/app:{number}" for number in range(5)]


async def test_page_with_many_labels_ends_early(on: Bench) -> None:
    """Labels that would not fit into one message make more pages, not an error."""
    for number in range(40):
        on.have(image_of([noise()], labels={"text": "x" * 60_000}), f"registry.example/app:{number:02}")
    first = await on.catalogue.listing.page("default", "", 200)
    assert 0 < len(first.images) < 40
    rest: list[ListedImage] = []
    page = first
    while page.next:
        page = await on.catalogue.listing.page("default", page.next, 200)
        rest += page.images
    assert len(first.images) + len(rest) == 40


async def test_thousand_images_are_listed_quickly(on: Bench) -> None:
    """A list of 1,000 images takes well under a second once their documents have been read."""
    shared = [noise() for _ in range(5)]
    for number in range(1000):
        on.have(image_of([*shared, noise()]), f"registry.example/app:{number:04}")

    async def whole_list() -> float:
        started = time.monotonic()
        after, count = "", 0
        while True:
            page = await on.catalogue.listing.page("default", after, 500)
            count += sum(image.content.complete for image in page.images)
            if not (after := page.next):
                break
        assert count == 1000
        return time.monotonic() - started

    await whole_list()
    assert min([await whole_list() for _ in range(3)]) < 1.0


async def test_tag_gives_an_image_another_name(on: Bench) -> None:
    """Both names mean the same image then, whichever way it was meant."""
    root = on.have(image_of([noise()]), APP)
    for text in (APP, root.hex[:12]):
        tagged = await on.catalogue.listing.tag("default", text, parse_reference(OTHER), a_hold())
        assert (tagged.name.reference, tagged.name.digest, tagged.content.complete) == (OTHER, root, True)
    assert on.records.names() == {APP: str(root), OTHER: str(root)}


async def test_tag_that_is_taken_moves_and_the_old_image_dangles(on: Bench) -> None:
    """Tagging over another image's only name leaves that image dangling."""
    old, new = image_of([noise()]), image_of([noise()])
    on.have(old, APP)
    on.have(new, APP_2)
    await on.catalogue.listing.tag("default", APP_2, parse_reference(APP), a_hold())
    assert on.records.names()[APP] == new.manifest.digest
    assert on.records.names()[f"hythe.invalid/dangling@{old.manifest.digest}"] == old.manifest.digest


async def test_tag_of_nothing_is_not_found(on: Bench) -> None:
    """There must be an image to give a name to."""
    with pytest.raises(NotFound):
        await on.catalogue.listing.tag("default", APP, parse_reference(OTHER), a_hold())
    assert on.records.names() == {}


async def test_tag_of_an_image_that_loses_its_last_name_just_then_names_nothing(on: Bench) -> None:
    """An image that is removed while it gets another name isn't named when it may be collected already."""
    on.have(image_of([noise()]), APP)
    leases = MemoryLeases()
    leases.on_refer = lambda contents: on.records.records.clear()
    with pytest.raises(NotFound):
        await on.catalogue.listing.tag("default", APP, parse_reference(OTHER), a_hold(leases))
    assert on.records.names() == {}


async def test_tagged_image_is_kept_until_the_name_keeps_it(on: Bench) -> None:
    """What is being named is kept by a lease, which ends in the very change that makes the name."""
    root = on.have(image_of([noise()]), APP)
    leases = MemoryLeases()
    kept: list[bool] = []
    on.records.before_change = lambda verb, reference: kept.append(leases.keeps(root))
    on.records.on_lease = leases.end_with_name
    await on.catalogue.listing.tag("default", APP, parse_reference(OTHER), a_hold(leases))
    assert kept == [True]
    assert leases.log == ["refer", "end with name"]


async def test_unknown_name_says_how_to_get_the_image(on: Bench) -> None:
    """A name gives its image, and an unknown one says how to get one."""
    root = on.have(image_of([noise()]), APP)
    assert await find(on, APP) == (APP, str(root))
    with pytest.raises(NotFound) as raised:
        await find(on, OTHER)
    assert "hythe pull" in raised.value.next_step


async def test_record_that_is_no_reference_is_listed_and_does_no_harm(on: Bench) -> None:
    """Whatever text a record has, images beside it are found."""
    on.records.move("NOT a reference", Descriptor(OCI_MANIFEST, Digest("a" * 64), 7))
    image = image_of([noise()])
    root = on.have(image, APP)
    assert len((await on.catalogue.listing.page("default", "", 200)).images) == 2
    assert await find(on, root.hex[:20]) == (APP, str(root))
    assert target_of(image.root).digest == root
