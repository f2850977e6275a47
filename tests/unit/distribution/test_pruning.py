"""Removing and pruning images, and what content they take, on content and names in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hythe.digest import Digest
from hythe.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from hythe_distribution.names import dangling_reference
from hythe_distribution.pruning import PruneWish, parse_before
from scripts.lab.images import OCI_LAYER, Blob, Image
from tests.unit.distribution.catalogue_bench import Bench, bench, image_of, noise, target_of

APP, APP_2, OTHER = "registry.example/app:1", "registry.example/app:2", "registry.example/other:1"


@pytest.fixture
def on() -> Iterator[Bench]:
    """An empty catalogue."""
    with bench() as made:
        yield made


def dangling(image: Image) -> str:
    """Return the name of an image that has no other."""
    return str(dangling_reference(Digest(image.root.digest.removeprefix("sha256:"))))


def size(*blobs: Blob) -> int:
    """Return the bytes of different blobs."""
    return sum(len(blob.data) for blob in {blob.digest: blob for blob in blobs}.values())


async def test_removed_name_is_told_with_the_image_that_went(on: Bench) -> None:
    """One of several names is only untagged; with the last one the image is gone, and nothing dangles."""
    root = on.have(image_of([noise()]), APP, OTHER)
    first = await on.catalogue.remover.remove("default", APP, False)
    assert (first.untagged, first.deleted) == ((APP,), ())
    last = await on.catalogue.remover.remove("default", OTHER, False)
    assert (last.untagged, last.deleted) == ((OTHER,), (root,))
    assert on.records.names() == {}
    with pytest.raises(NotFound):
        await on.catalogue.remover.remove("default", OTHER, False)


async def test_id_with_several_names_is_removed_with_force_only(on: Bench) -> None:
    """An id that several names share is refused with their list; force takes them all."""
    root = on.have(image_of([noise()]), APP, OTHER)
    with pytest.raises(FailedPrecondition) as raised:
        await on.catalogue.remover.remove("default", root.hex[:12], False)
    assert APP in raised.value.message
    assert OTHER in raised.value.message
    assert "--force" in raised.value.next_step
    gone = await on.catalogue.remover.remove("default", root.hex[:12], True)
    assert (gone.untagged, gone.deleted) == ((APP, OTHER), (root,))


async def test_id_with_one_name_is_removed(on: Bench) -> None:
    """An id is as good as the only name."""
    root = on.have(image_of([noise()]), APP)
    gone = await on.catalogue.remover.remove("default", root.hex, False)
    assert (gone.untagged, gone.deleted) == ((APP,), (root,))


async def test_dangling_image_is_removed_by_its_id(on: Bench) -> None:
    """The made-up name of a dangling image is nothing that was untagged."""
    image = image_of([noise()])
    root = on.have(image, dangling(image))
    gone = await on.catalogue.remover.remove("default", root.hex[:12], False)
    assert (gone.untagged, gone.deleted) == ((), (root,))
    assert on.records.names() == {}


async def test_image_in_use_is_refused_with_its_containers(on: Bench) -> None:
    """The last name of an image that a container uses stays, and the containers are named; force removes it."""
    root = on.have(image_of([noise()]), APP)
    on.records.use("web", root)
    on.records.use("far", root, namespace="other")
    for text in (APP, root.hex[:12]):
        with pytest.raises(FailedPrecondition) as raised:
            await on.catalogue.remover.remove("default", text, False)
        assert "web" in raised.value.message
        assert "far" not in raised.value.message
        assert "hythe rm web" in raised.value.next_step
    assert (await on.catalogue.remover.remove("default", APP, True)).deleted == (root,)


async def test_image_in_use_may_lose_a_name_but_not_the_last(on: Bench) -> None:
    """One of several names can go while a container runs, as with Docker."""
    root = on.have(image_of([noise()]), APP, OTHER)
    on.records.use("web", root)
    await on.catalogue.remover.remove("default", APP, False)
    with pytest.raises(FailedPrecondition):
        await on.catalogue.remover.remove("default", OTHER, False)


async def test_name_that_moved_during_removal_is_kept(on: Bench) -> None:
    """What was pulled in the meantime is never removed for what the name was before."""
    on.have(image_of([noise()]), APP)
    newer = image_of([noise()])
    on.keep(newer.manifest)
    on.records.before_change = lambda verb, reference: on.records.move(APP, target_of(newer.root))
    with pytest.raises(Conflict):
        await on.catalogue.remover.remove("default", APP, False)
    assert on.records.names() == {APP: newer.manifest.digest}


async def test_prune_forgets_dangling_images_alone(on: Bench) -> None:
    """Without more words only what has no name goes, unless a container uses it; superfluous names go as well."""
    named, lost, used = image_of([noise()]), image_of([noise()]), image_of([noise()])
    on.have(named, APP, dangling(named))
    root = on.have(lost, dangling(lost))
    on.records.use("web", on.have(used, dangling(used)))
    pruned = await on.catalogue.pruner.prune("default", PruneWish(), False)
    assert (pruned.forgotten.untagged, pruned.forgotten.deleted) == ((), (root,))
    assert pruned.reclaimable_bytes == size(lost.manifest, *lost.blobs)
    assert on.records.names() == {APP: named.manifest.digest, dangling(used): used.manifest.digest}


async def test_prune_of_all_keeps_what_containers_use(on: Bench) -> None:
    """With all, every image that no container of the namespace uses goes, with all its names."""
    used, unused, lost = image_of([noise()]), image_of([noise()]), image_of([noise()])
    on.records.use("web", on.have(used, APP))
    roots = {on.have(unused, APP_2, OTHER), on.have(lost, dangling(lost))}
    pruned = await on.catalogue.pruner.prune("default", PruneWish(unused=True), False)
    assert set(pruned.forgotten.untagged) == {APP_2, OTHER}
    assert set(pruned.forgotten.deleted) == roots
    assert on.records.names() == {APP: used.manifest.digest}
    again = await on.catalogue.pruner.prune("default", PruneWish(unused=True), False)
    assert (again.forgotten.deleted, again.reclaimable_bytes) == ((), 0)


async def test_dry_run_tells_what_a_prune_would_do_and_does_nothing(on: Bench) -> None:
    """The dry run and the prune after it say the same."""
    image, lost = image_of([noise()]), image_of([noise()])
    on.have(image, APP, OTHER)
    on.have(lost, dangling(lost))
    before = on.records.names()
    told = await on.catalogue.pruner.prune("default", PruneWish(unused=True), True)
    assert on.records.names() == before
    assert told == await on.catalogue.pruner.prune("default", PruneWish(unused=True), False)
    assert on.records.names() == {}


async def test_prune_keeps_what_is_younger_or_lacks_a_label(on: Bench) -> None:
    """Age and labels narrow a prune; all labels must match, by key or by value; the youngest name counts."""
    blue = image_of([noise()], labels={"team": "blue", "temporary": ""})
    red = image_of([noise()], labels={"team": "red"})
    on.records.now = "2026-03-01T12:00:00.000000Z"
    on.have(blue, APP)
    on.have(red, APP_2)
    on.records.now = "2026-05-01T12:00:00.000000Z"
    on.have(red, OTHER)

    async def would_go(**wish: object) -> set[str]:
        asked_for = PruneWish(unused=True, **wish)  # type: ignore[arg-type]
        return set((await on.catalogue.pruner.prune("default", asked_for, True)).forgotten.untagged)

    assert await would_go(labels=("team",)) == {APP, APP_2, OTHER}
    assert await would_go(labels=("team=blue",)) == {APP}
    assert await would_go(labels=("team", "temporary")) == {APP}
    assert await would_go(labels=("team=green",)) == set()
    assert await would_go(before=parse_before("2026-03-01T13:30:00+02:00")) == set()
    assert await would_go(before=parse_before("2026-04-01T00:00:00Z")) == {APP}
    assert await would_go(before=parse_before("2026-06-01T00:00:00Z")) == {APP, APP_2, OTHER}


@pytest.mark.parametrize("text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z"])
def test_time_that_leaves_a_doubt_is_refused(text: str) -> None:
    """Nothing is deleted by a guess about what time was meant."""
    with pytest.raises(InvalidArgument) as raised:
        parse_before(text)
    assert raised.value.next_step


async def test_unreadable_image_is_pruned_by_name_but_never_by_label(on: Bench) -> None:
    """An image whose labels nobody can read matches none of them."""
    image = image_of([noise()], labels={"team": "blue"})
    root = on.have(image, dangling(image))
    on.lose(image.config)
    assert (await on.catalogue.pruner.prune("default", PruneWish(labels=("team",)), False)).forgotten.deleted == ()
    assert (await on.catalogue.pruner.prune("default", PruneWish(), False)).forgotten.deleted == (root,)


async def test_name_that_moved_during_a_prune_is_kept(on: Bench) -> None:
    """A pull that comes while pruning keeps its new image, and what is told is what happened."""
    root = on.have(image_of([noise()]), APP, OTHER)
    newer = image_of([noise()])
    on.keep(newer.manifest)

    def pulled_meanwhile(verb: str, reference: str) -> None:
        if reference == APP:
            on.records.move(APP, target_of(newer.root))

    on.records.before_change = pulled_meanwhile
    pruned = await on.catalogue.pruner.prune("default", PruneWish(unused=True), False)
    assert pruned.forgotten.untagged == (OTHER,)
    assert on.records.names() == {APP: newer.manifest.digest}
    assert pruned.forgotten.deleted == (root,)


async def test_usage_counts_shared_bytes_once(on: Bench) -> None:
    """Each image has its own and its shared bytes; the total has every blob once."""
    base = noise(1000)
    first, second = image_of([base, noise(300)]), image_of([base, noise(500)])
    on.have(first, APP, APP_2)
    on.records.use("web", on.have(second, OTHER))
    usage = await on.catalogue.accountant.usage("default")
    one, two = usage.images
    assert (one.references, two.references) == ((APP, APP_2), (OTHER,))
    assert one.size_bytes == size(first.manifest, *first.blobs)
    assert (one.shared_bytes, two.shared_bytes) == (1000, 1000)
    assert one.unique_bytes == one.size_bytes - 1000
    assert (one.containers, two.containers) == (0, 1)
    assert str(one.id) == first.config.digest
    assert usage.total_bytes == one.size_bytes + two.unique_bytes
    assert usage.reclaimable_bytes == one.unique_bytes
    assert usage.unreferenced_bytes == 0


async def test_reclaimable_bytes_are_what_a_prune_of_all_tells(on: Bench) -> None:
    """The promise of usage and the result of the prune are one number, images of other namespaces considered."""
    base, theirs = noise(1000), noise(2000)
    image, lost = image_of([base, noise(300)]), image_of([theirs, noise(400)])
    on.have(image, APP)
    on.have(lost, dangling(lost))
    on.have(image_of([theirs]), APP, namespace="other")
    usage = await on.catalogue.accountant.usage("default")
    pruned = await on.catalogue.pruner.prune("default", PruneWish(unused=True), False)
    assert pruned.reclaimable_bytes == usage.reclaimable_bytes
    assert usage.reclaimable_bytes == size(image.manifest, *image.blobs, lost.manifest, *lost.blobs) - 2000
    left = await on.catalogue.accountant.usage("default")
    assert left.images == ()
    assert left.unreferenced_bytes == usage.reclaimable_bytes


async def test_unreferenced_bytes_belong_to_no_image_of_any_namespace(on: Bench) -> None:
    """Blobs that only another namespace's image has are not called unreferenced."""
    stray = Blob(noise(700), OCI_LAYER)
    on.keep(stray)
    on.have(image_of([noise()]), APP, namespace="other")
    usage = await on.catalogue.accountant.usage("default")
    assert (usage.images, usage.total_bytes, usage.unreferenced_bytes) == ((), 0, 700)


async def test_usage_counts_only_what_is_here(on: Bench) -> None:
    """A layer that is missing takes no room; an image of which nothing is here takes none."""
    image = image_of([noise(1000), noise(10)])
    on.have(image, APP)
    on.lose(image.layers[0])
    gone = image_of([noise()])
    on.records.move(OTHER, target_of(gone.root))
    first, second = (await on.catalogue.accountant.usage("default")).images
    assert first.size_bytes == size(image.manifest, *image.blobs) - 1000
    assert (second.size_bytes, second.blobs, second.id) == (0, 0, None)
