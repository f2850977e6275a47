"""Names of images: Docker's dangling rule, over records in memory."""

from __future__ import annotations

import asyncio

import pytest

from hythe.digest import Digest
from hythe.errors import Conflict, InvalidArgument, Unavailable
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe_distribution.claiming import NameRecord
from hythe_distribution.names import Naming, dangling_reference
from scripts.lab.images import OCI_MANIFEST
from tests.fakes.names import MemoryNames

OLD, NEW = (Descriptor(OCI_MANIFEST, Digest(digit * 64), 1234) for digit in "ab")
APP = parse_reference("registry.example/app:1")
OTHER = parse_reference("registry.example/app:other")
DANGLING = str(dangling_reference(OLD.digest))


@pytest.fixture
def records() -> MemoryNames:
    """No names yet."""
    return MemoryNames()


@pytest.fixture
def naming(records: MemoryNames) -> Naming:
    """What the service has for names."""
    return Naming(records)


async def test_image_whose_only_tag_moves_away_is_dangling(naming: Naming, records: MemoryNames) -> None:
    """A new build under the old tag leaves the old image listed without a name, as with Docker, and not lost."""
    await naming.point("default", APP, OLD)
    await naming.point("default", APP, NEW)
    assert records.names() == {str(APP): str(NEW.digest), DANGLING: str(OLD.digest)}
    assert records.records["default", DANGLING].target == OLD


async def test_pull_that_moves_a_tag_keeps_the_old_image_too(naming: Naming, records: MemoryNames) -> None:
    """A pull, which moves a name only from where it saw it, follows the same rule."""
    await naming.put("default", APP, OLD, 0)
    seen = await naming.get("default", APP)
    assert seen == NameRecord(1, OLD.digest)
    await naming.put("default", APP, NEW, seen.revision)
    assert records.names() == {str(APP): str(NEW.digest), DANGLING: str(OLD.digest)}
    assert await naming.get("default", OTHER) == NameRecord(0, None)


async def test_image_with_another_name_does_not_dangle(naming: Naming, records: MemoryNames) -> None:
    """As long as any name is left, an image needs no dangling one."""
    await naming.point("default", APP, OLD)
    await naming.point("default", OTHER, OLD)
    await naming.point("default", APP, NEW)
    assert records.names() == {str(APP): str(NEW.digest), str(OTHER): str(OLD.digest)}


async def test_name_of_another_namespace_does_not_keep_an_image_from_dangling(
    naming: Naming, records: MemoryNames
) -> None:
    """Namespaces don't see each other's names, so each keeps its own image."""
    await naming.point("other", APP, OLD)
    await naming.point("default", APP, OLD)
    await naming.point("default", APP, NEW)
    assert records.names() == {str(APP): str(NEW.digest), DANGLING: str(OLD.digest)}
    assert records.names("other") == {str(APP): str(OLD.digest)}


async def test_dangling_image_that_gets_a_name_again_dangles_no_more(naming: Naming, records: MemoryNames) -> None:
    """Tagging a dangling image brings it back."""
    await naming.point("default", APP, OLD)
    await naming.point("default", APP, NEW)
    await naming.point("default", OTHER, OLD)
    assert records.names() == {str(APP): str(NEW.digest), str(OTHER): str(OLD.digest)}


async def test_crash_during_a_move_never_leaves_an_image_without_a_name(naming: Naming, records: MemoryNames) -> None:
    """The dangling name is written before the tag moves; what a crash in between leaves is one name too many."""
    await naming.point("default", APP, OLD)

    def away_for_the_tag(verb: str, reference: str) -> None:
        if reference == str(APP):
            raise Unavailable("put image: metadata is gone")

    records.before_change = away_for_the_tag
    with pytest.raises(Unavailable):
        await naming.point("default", APP, NEW)
    assert records.names() == {str(APP): str(OLD.digest), DANGLING: str(OLD.digest)}


async def test_lost_race_for_a_name_leaves_nothing_behind(naming: Naming, records: MemoryNames) -> None:
    """A pull that comes too late is told so, and does not make the present image dangle."""
    await naming.put("default", APP, OLD, 0)
    with pytest.raises(Conflict):
        await naming.put("default", APP, NEW, 0)
    with pytest.raises(Conflict):
        await naming.put("default", APP, NEW, 17)
    assert records.names() == {str(APP): str(OLD.digest)}


async def test_two_names_that_move_at_once_leave_the_image_dangling(naming: Naming, records: MemoryNames) -> None:
    """Neither move relies on the name that the other one takes away."""
    await naming.point("default", APP, OLD)
    await naming.point("default", OTHER, OLD)
    await asyncio.gather(naming.point("default", APP, NEW), naming.point("default", OTHER, NEW))
    assert records.names() == {str(APP): str(NEW.digest), str(OTHER): str(NEW.digest), DANGLING: str(OLD.digest)}


async def test_pointing_a_name_where_it_points_changes_nothing(naming: Naming, records: MemoryNames) -> None:
    """Pulling what is here already makes nothing dangle."""
    await naming.point("default", APP, OLD)
    await naming.point("default", APP, OLD)
    assert records.names() == {str(APP): str(OLD.digest)}


@pytest.mark.parametrize(
    "name", ["hythe.invalid/dangling:1", f"hythe.invalid/dangling@{OLD.digest}", "hythe.invalid/x"]
)
async def test_reserved_name_is_refused(naming: Naming, records: MemoryNames, name: str) -> None:
    """Neither a user nor an archive can name an image as dangling ones are named."""
    with pytest.raises(InvalidArgument, match="reserved"):
        await naming.point("default", parse_reference(name), OLD)
    assert records.names() == {}


async def test_name_with_another_images_digest_is_refused(naming: Naming, records: MemoryNames) -> None:
    """A name with a digest in it always means the image of that digest."""
    with pytest.raises(InvalidArgument):
        await naming.put("default", parse_reference(f"registry.example/app@{NEW.digest}"), OLD, 0)
    own = parse_reference(f"registry.example/app@{OLD.digest}")
    await naming.put("default", own, OLD, 0)
    assert records.names() == {str(own): str(OLD.digest)}


async def test_forgotten_name_takes_a_superfluous_dangling_one_along(naming: Naming, records: MemoryNames) -> None:
    """What a crash left does not make an image reappear that was removed by its last name."""
    records.move(str(APP), OLD)
    records.move(DANGLING, OLD)
    forgotten = await naming.forget("default", [records.records["default", str(APP)]])
    assert (forgotten.untagged, forgotten.deleted) == ((str(APP),), (OLD.digest,))
    assert records.names() == {}


async def test_name_that_moved_is_not_forgotten(naming: Naming, records: MemoryNames) -> None:
    """A name that by now points to a newer image stays, and so does that image."""
    record = await naming.point("default", APP, OLD)
    records.move(str(APP), NEW)
    forgotten = await naming.forget("default", [record])
    assert (forgotten.untagged, forgotten.deleted) == ((), ())
    assert records.names() == {str(APP): str(NEW.digest)}


async def test_forgetting_twice_tells_the_same(naming: Naming, records: MemoryNames) -> None:
    """A repetition after a lost answer succeeds."""
    record = await naming.point("default", APP, OLD)
    first = await naming.forget("default", [record])
    assert await naming.forget("default", [record]) == first


async def test_names_are_read_page_by_page(naming: Naming, records: MemoryNames) -> None:
    """However many names there are, all are seen, in one namespace and in all."""
    for number in range(1203):
        records.move(f"registry.example/app:{number:04}", OLD, "ab"[number % 2])
    assert len(await naming.all("a")) == 602
    assert len({(name.namespace, name.reference) for name in await naming.everywhere()}) == 1203
