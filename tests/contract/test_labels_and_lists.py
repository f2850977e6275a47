"""What is promised of labels, masks, filters and references of containers and images, on every body of the store."""

from __future__ import annotations

import asyncio

import pytest

from hythe.errors import Conflict, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import ALL_NAMESPACES, ContainerRecord, ContainerWish, ImageRecord, ImageWish, Origin
from hythe_metadata import containers, images, leases
from hythe_metadata.lease_records import Resource
from hythe_metadata.leases import LeaseWish
from hythe_metadata.records import Edge, Key, RecordStore
from tests.fakes.intent import Intent

DIGEST_A = "sha256:" + "a" * 64
DIGEST_B = "sha256:" + "b" * 64
DIGEST_C = "sha256:" + "c" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REFERENCE = "localhost/a:1"


@pytest.fixture
def intent(record_store: RecordStore) -> Intent:
    """An empty store."""
    return Intent(record_store)


def asks(request_id: str = "", namespace: str = "default") -> Origin:
    """Return who asks, by default with a fresh request id."""
    return Origin(namespace, "test", request_id or new_id())


async def put(intent: Intent, reference: str = REFERENCE, digest: str = DIGEST_A, **labels: str) -> ImageRecord:
    """Make an image."""
    return await intent.put_image(asks(), ImageWish(reference, digest, MANIFEST, 7, labels=labels))


async def begin(intent: Intent, name: str, **wishes: object) -> ContainerRecord:
    """Begin a container."""
    wish = ContainerWish(new_id(), name, REFERENCE, DIGEST_A, "h1", "{}", **wishes)  # type: ignore[arg-type]
    return await intent.begin(asks(), wish)


async def update_image(intent: Intent, wish: images.UpdateWish, origin: Origin | None = None) -> ImageRecord:
    """Update an image."""
    return await intent.store.change(images.update(origin or asks(), wish))


async def update_container(
    intent: Intent, wish: containers.UpdateWish, origin: Origin | None = None
) -> ContainerRecord:
    """Update a container."""
    return await intent.store.change(containers.update(origin or asks(), wish, intent.leases))


async def edges(intent: Intent) -> dict[str, set[Edge]]:
    """Return what each record refers to, by its name."""
    found: dict[str, set[Edge]] = {}
    for key, edge in await intent.store.read(lambda view: list(view.edges())):
        found.setdefault(key.name, set()).add(edge)
    return found


async def last_event(intent: Intent) -> OutgoingEvent:
    """Return the newest event."""
    return (await intent.outgoing(0, 1000))[-1]


@pytest.mark.parametrize(
    ("fields", "wanted", "becomes"),
    [
        (("labels",), {"c": "3"}, {"c": "3"}),
        (("labels",), {}, {}),
        (("labels.a",), {"a": "9", "b": "9"}, {"a": "9", "b": "2"}),
        (("labels.a",), {}, {"b": "2"}),
        (("labels.a",), {"a": ""}, {"b": "2"}),
        (("labels.x.y/z",), {"x.y/z": "1"}, {"a": "1", "b": "2", "x.y/z": "1"}),
        (("labels.a", "labels.c"), {"a": "9", "c": "3"}, {"a": "9", "b": "2", "c": "3"}),
    ],
)
async def test_update_changes_what_its_mask_names(
    intent: Intent, fields: tuple[str, ...], wanted: dict[str, str], becomes: dict[str, str]
) -> None:
    """Labels that the mask names become as wanted, of images and containers alike, and nothing else changes."""
    image = await put(intent, a="1", b="2")
    container = await begin(intent, "web", labels={"a": "1", "b": "2"})
    changed = await update_image(intent, images.UpdateWish(REFERENCE, wanted, fields))
    assert changed.labels == becomes
    assert (changed.digest, changed.size_bytes, changed.created_at) == (DIGEST_A, 7, image.created_at)
    assert await intent.image("default", REFERENCE) == changed
    relabelled = await update_container(intent, containers.UpdateWish(container.id, wanted, fields))
    assert relabelled.labels == becomes
    assert (relabelled.epoch_revision, relabelled.phase) == (container.epoch_revision, container.phase)
    assert relabelled.revision > container.revision
    assert await intent.container("default", "web") == relabelled


async def test_update_of_a_target_moves_the_name_whole(intent: Intent) -> None:
    """With `target` in the mask a name points elsewhere and keeps its labels; without it nothing of a target counts."""
    await put(intent, a="1")
    wish = images.UpdateWish(REFERENCE, {}, ("target",), digest=DIGEST_B, media_type="m", size_bytes=9)
    moved = await update_image(intent, wish)
    assert (moved.digest, moved.media_type, moved.size_bytes, moved.labels) == (DIGEST_B, "m", 9, {"a": "1"})
    assert (await edges(intent))[REFERENCE] == {Edge("content", DIGEST_B, "target")}
    both = images.UpdateWish(REFERENCE, {"b": "2"}, ("target", "labels.b"), digest=DIGEST_C, media_type="m")
    assert (await update_image(intent, both)).labels == {"a": "1", "b": "2"}
    ignored = images.UpdateWish(REFERENCE, {}, ("labels.b",), digest=DIGEST_A, media_type="other", size_bytes=1)
    stays = await update_image(intent, ignored)
    assert (stays.digest, stays.media_type, stays.size_bytes) == (DIGEST_C, "m", 0)


@pytest.mark.parametrize("digest", ["", "sha256:xyz"])
async def test_target_must_be_a_digest(intent: Intent, digest: str) -> None:
    """A name never comes to point at nothing by an update."""
    await put(intent)
    with pytest.raises(InvalidArgument):
        await update_image(intent, images.UpdateWish(REFERENCE, {}, ("target",), digest=digest))
    assert (await intent.image("default", REFERENCE)).digest == DIGEST_A


@pytest.mark.parametrize("field", ["", "labels.", "name", "created_at", "target.digest", "label", "spec"])
async def test_mask_with_an_unknown_field_is_refused(intent: Intent, field: str) -> None:
    """A field that can't be updated is named, also beside one that can, and nothing is changed."""
    await put(intent, a="1")
    container = await begin(intent, "web")
    with pytest.raises(InvalidArgument) as refused:
        await update_image(intent, images.UpdateWish(REFERENCE, {"b": "2"}, ("labels", field)))
    assert repr(field) in refused.value.message
    for unknown in (field, "target"):
        with pytest.raises(InvalidArgument):
            await update_container(intent, containers.UpdateWish(container.id, {"b": "2"}, ("labels", unknown)))
    assert (await intent.image("default", REFERENCE)).labels == {"a": "1"}
    assert (await intent.container("default", "web")).labels == {}


async def test_update_compares_the_revision_before_it_sets(intent: Intent) -> None:
    """Who changes labels by what it read is refused when another was faster, and learns the revision."""
    image, container = await put(intent), await begin(intent, "web")
    for _ in range(2):
        await update_image(intent, images.UpdateWish(REFERENCE, {"n": new_id()}))
        await update_container(intent, containers.UpdateWish(container.id, {"n": new_id()}))
    now, runs = await intent.image("default", REFERENCE), await intent.container("default", "web")
    with pytest.raises(Conflict) as late:
        await update_image(intent, images.UpdateWish(REFERENCE, {"late": "1"}, if_revision=image.revision))
    assert late.value.details["revision"] == str(now.revision)
    with pytest.raises(Conflict) as late:
        await update_container(intent, containers.UpdateWish(container.id, {"late": "1"}, if_revision=1))
    assert late.value.details["revision"] == str(runs.revision)
    wish = images.UpdateWish(REFERENCE, {"n": "1"}, if_revision=now.revision)
    assert (await update_image(intent, wish)).labels == {"n": "1"}
    found = await update_container(intent, containers.UpdateWish(container.id, {"n": "1"}, if_revision=runs.revision))
    assert found.labels == {"n": "1"}


async def test_labels_of_many_writers_are_all_there(intent: Intent) -> None:
    """Thirty-two at once, each with a label of its own in the mask, take none of the others away."""
    container = await begin(intent, "web")
    await put(intent)
    await asyncio.gather(
        *(
            update
            for number in range(32)
            for update in (
                update_image(intent, images.UpdateWish(REFERENCE, {f"n{number}": "1"}, (f"labels.n{number}",))),
                update_container(
                    intent, containers.UpdateWish(container.id, {f"n{number}": "1"}, (f"labels.n{number}",))
                ),
            )
        )
    )
    everybody = {f"n{number}": "1" for number in range(32)}
    assert (await intent.image("default", REFERENCE)).labels == everybody
    assert (await intent.container("default", "web")).labels == everybody


async def test_repeated_update_does_not_undo_a_later_one(intent: Intent) -> None:
    """A request that comes twice is answered as the first time, and what was changed since stays."""
    container = await begin(intent, "web")
    await put(intent)
    image_first, image_asks = images.UpdateWish(REFERENCE, {"a": "1"}), asks()
    first, first_asks = containers.UpdateWish(container.id, {"a": "1"}), asks()
    answers = await update_image(intent, image_first, image_asks), await update_container(intent, first, first_asks)
    await update_image(intent, images.UpdateWish(REFERENCE, {"a": "2"}))
    await update_container(intent, containers.UpdateWish(container.id, {"a": "2"}))
    assert await update_image(intent, image_first, image_asks) == answers[0]
    assert await update_container(intent, first, first_asks) == answers[1]
    assert (await intent.image("default", REFERENCE)).labels == {"a": "2"}
    assert (await intent.container("default", "web")).labels == {"a": "2"}
    with pytest.raises(Conflict):
        await update_image(intent, images.UpdateWish(REFERENCE, {"a": "3"}), image_asks)


async def test_update_that_changes_nothing_is_not_told(intent: Intent) -> None:
    """Labels that are there already make no revision and no event."""
    image, container = await put(intent, a="1"), await begin(intent, "web", labels={"a": "1"})
    told = len(await intent.outgoing(0, 100))
    assert await update_image(intent, images.UpdateWish(REFERENCE, {"a": "1"})) == image
    assert await update_container(intent, containers.UpdateWish(container.id, {"a": "1"})) == container
    assert len(await intent.outgoing(0, 100)) == told


async def test_update_of_what_is_not_there_is_not_found(intent: Intent) -> None:
    """An update makes nothing, also not of what is in another namespace or is being removed."""
    await put(intent)
    container = await begin(intent, "web")
    with pytest.raises(NotFound):
        await update_image(intent, images.UpdateWish("localhost/b:1", {"a": "1"}))
    with pytest.raises(NotFound):
        await update_image(intent, images.UpdateWish(REFERENCE, {"a": "1"}), asks(namespace="other"))
    with pytest.raises(NotFound):
        await update_container(intent, containers.UpdateWish(container.id, {"a": "1"}), asks(namespace="other"))
    await intent.finish(asks(), container.id, "removing")
    with pytest.raises(NotFound):
        await update_container(intent, containers.UpdateWish(container.id, {"a": "1"}))


async def test_label_beyond_the_limit_is_refused(intent: Intent) -> None:
    """Key and value of a label have at most 4096 bytes together, wherever it is set."""
    fits, long = {"k" * 96: "v" * 4000}, {"k" * 96: "ä" * 2000 + "v"}
    container = await begin(intent, "fits", labels=fits)
    assert (await put(intent, **fits)).labels == fits
    refused = [
        begin(intent, "long", labels=long),
        put(intent, "localhost/b:1", **long),
        update_container(intent, containers.UpdateWish(container.id, {"": "empty key"})),
    ]
    for change in refused:
        with pytest.raises(InvalidArgument):
            await change
    for wish in (images.UpdateWish(REFERENCE, long), images.UpdateWish(REFERENCE, {"": "v"})):
        with pytest.raises(InvalidArgument):
            await update_image(intent, wish)
    with pytest.raises(NotFound):
        await intent.container("default", "long")


async def test_put_without_labels_leaves_those_that_are_there(intent: Intent) -> None:
    """A name that moves keeps its labels, unless others, or none, are given with it."""
    await put(intent, a="1")
    moved = await intent.put_image(asks(), ImageWish(REFERENCE, DIGEST_B, MANIFEST, 7))
    assert moved.labels == {"a": "1"}
    request = asks()
    cleared = await intent.put_image(request, ImageWish(REFERENCE, DIGEST_B, MANIFEST, 7, labels={}))
    assert cleared.labels == {}
    with pytest.raises(Conflict):
        await intent.put_image(request, ImageWish(REFERENCE, DIGEST_B, MANIFEST, 7))


async def test_put_ends_the_lease_that_brought_the_image(intent: Intent) -> None:
    """The lease of a pull goes with the change that names the image, and stays where that is refused."""
    for lease_id in ("pull", "other"):
        await intent.store.change(leases.create(asks(), LeaseWish(lease_id)))
        await intent.store.change(leases.add(asks(), lease_id, [Resource("content", DIGEST_A)], intent.leases))

    async def left() -> list[str]:
        return [stored.key.name for stored in await intent.store.read(lambda view: list(view.scan("lease")))]

    with pytest.raises(Conflict):
        await intent.put_image(asks(), ImageWish(REFERENCE, DIGEST_A, MANIFEST, 7, if_revision=9, lease="pull"))
    assert await left() == ["other", "pull"]
    await intent.put_image(asks(), ImageWish(REFERENCE, DIGEST_A, MANIFEST, 7, lease="pull"))
    assert await left() == ["other"]
    assert {"pull", REFERENCE} & set(await edges(intent)) == {REFERENCE}
    await intent.put_image(asks(), ImageWish(REFERENCE, DIGEST_A, MANIFEST, 7, lease="other"))
    assert await left() == [], "also where the name pointed there already"


async def test_records_refer_to_what_they_need(intent: Intent) -> None:
    """A mark sees an image's target, a container's image and snapshot, and what the labels of both name."""
    labels = {"containerd.io/gc.ref.content.x": DIGEST_C, "containerd.io/gc.ref.snapshot.native/y": "key"}
    via_labels = {
        Edge("content", DIGEST_C, "containerd.io/gc.ref.content.x"),
        Edge("snapshot/native", "key", "containerd.io/gc.ref.snapshot.native/y"),
    }
    await put(intent, **labels)
    here = await begin(intent, "here", labels=labels, snapshotter="overlayfs")
    there = await begin(intent, "there")
    found = await edges(intent)
    assert found[REFERENCE] == {Edge("content", DIGEST_A, "target"), *via_labels}
    image = Edge("content", DIGEST_A, "image")
    assert found[here.id] == {Edge("snapshot/overlayfs", here.id, "snapshot_key"), image, *via_labels}
    assert found[there.id] == {Edge("snapshot/*", there.id, "snapshot_key"), image}
    await update_container(intent, containers.UpdateWish(here.id))
    await update_image(intent, images.UpdateWish(REFERENCE, {}))
    found = await edges(intent)
    assert found[here.id] == {Edge("snapshot/overlayfs", here.id, "snapshot_key"), image}
    assert found[REFERENCE] == {Edge("content", DIGEST_A, "target")}
    await intent.finish(asks(), here.id, "removing")
    await intent.remove_image(asks(), REFERENCE)
    assert set(await edges(intent)) == {there.id}


async def test_events_tell_labels_and_where_a_name_points(intent: Intent) -> None:
    """Who follows the events learns of each update what containerd tells of it."""
    await put(intent)
    await update_image(intent, images.UpdateWish(REFERENCE, {"a": "1"}))
    event = await last_event(intent)
    assert (event.topic, event.past, event.number) == ("/images/update", "updated", 2)
    assert event.attributes == {"name": REFERENCE, "digest": DIGEST_A, "labels.a": "1"}
    container = await begin(intent, "web", runtime="runsc")
    event = await last_event(intent)
    assert event.topic == "/containers/create"
    assert {"id": container.id, "image": REFERENCE, "runtime.name": "runsc"}.items() <= event.attributes.items()
    await update_container(intent, containers.UpdateWish(container.id, {"a": "1"}))
    event = await last_event(intent)
    assert (event.topic, event.number) == ("/containers/update", 2)
    said = {"id": container.id, "image": REFERENCE, "snapshot_key": container.id, "labels.a": "1"}
    assert event.attributes == said


@pytest.mark.parametrize("name", ["a b", "../x", "-x", "x" * 77])
@pytest.mark.parametrize("field", ["runtime", "snapshotter"])
async def test_malformed_runtime_or_snapshotter_is_refused(intent: Intent, field: str, name: str) -> None:
    """Names of runtimes and snapshotters are identifiers."""
    with pytest.raises(InvalidArgument):
        await begin(intent, "web", **{field: name})
    with pytest.raises(NotFound):
        await intent.container("default", "web")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name==web"], ["web"]),
        (["name~=/^w/"], ["web", "worker"]),
        (["labels.tier==back"], ["db", "worker"]),
        (["labels.tier==back,name!=db"], ["worker"]),
        (["name==web", "name==db"], ["db", "web"]),
        (["labels.tier"], ["db", "web", "worker"]),
        (['labels."a.b/c"==1'], ["plain"]),
        (["runtime.name==runsc"], ["db"]),
        (["image==localhost/a:1"], ["db", "plain", "web", "worker"]),
        (["image==localhost/b:1"], []),
        ([""], ["db", "plain", "web", "worker"]),
        ([], ["db", "plain", "web", "worker"]),
    ],
)
async def test_containers_are_listed_by_filters(intent: Intent, filters: list[str], names: list[str]) -> None:
    """A list has those that one of the filters means, in whatever pages it comes."""
    await begin(intent, "web", labels={"tier": "front"})
    await begin(intent, "db", labels={"tier": "back"}, runtime="runsc")
    await begin(intent, "worker", labels={"tier": "back"})
    await begin(intent, "plain", labels={"a.b/c": "1"})
    for namespace in ("default", ALL_NAMESPACES):
        for limit in (1, 3, 100):
            found: list[str] = []
            after = ""
            while True:
                page = await intent.containers(namespace, after, limit, filters)
                assert len(page.records) <= limit
                found += [record.name for record in page.records]
                after = page.next
                if not after:
                    break
            assert sorted(found) == names


@pytest.mark.parametrize(
    ("filters", "references"),
    [
        (["name==localhost/a:1"], ["localhost/a:1"]),
        ([f"target.digest=={DIGEST_B}"], ["localhost/b:1"]),
        ([f"target.mediatype=={MANIFEST}"], ["localhost/a:1", "localhost/b:1"]),
        (["target.mediatype==other"], []),
        (["labels.keep"], ["localhost/b:1"]),
        (["labels.keep==no", "name~=/a:1$/"], ["localhost/a:1"]),
    ],
)
async def test_images_are_listed_by_filters(intent: Intent, filters: list[str], references: list[str]) -> None:
    """A list has the names that one of the filters means."""
    await put(intent)
    await put(intent, "localhost/b:1", DIGEST_B, keep="yes")
    for namespace in ("default", ALL_NAMESPACES):
        found = (await intent.images(namespace, "", 10, filters)).records
        assert [record.reference for record in found] == references


async def test_filter_that_does_not_parse_is_told_with_its_position(intent: Intent) -> None:
    """A filter that can't be read is refused before anything is searched, and shows where."""
    for listed in (intent.containers, intent.images):
        with pytest.raises(InvalidArgument) as refused:
            await listed("default", "", 10, ["name==a,labels."])
        assert "position 15" in refused.value.message


async def test_update_is_in_the_log_of_changes(intent: Intent) -> None:
    """Who follows the log learns of an update as of any change."""
    image = await put(intent)
    changed = await update_image(intent, images.UpdateWish(REFERENCE, {"a": "1"}))
    (change,) = await intent.store.read(lambda view: view.changes(image.revision, 10))
    assert (change.key, change.revision) == (Key("image", "default", REFERENCE), changed.revision)
