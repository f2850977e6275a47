"""Why something is kept, what the graph shows, and what takes how much."""

from __future__ import annotations

import pytest

from hythe.errors import InvalidArgument, NotFound
from hythe.ports.metadata import ALL_NAMESPACES
from hythe_metadata.gc import picture
from hythe_metadata.gc.explaining import Explainer
from hythe_metadata.gc.owners import HostUsage
from hythe_metadata.gc.picture import Line, Picture
from hythe_metadata.gc.reading import reading
from hythe_metadata.gc.usage import usage
from hythe_metadata.gc.why import MOST_PATHS, Answer, find_content
from hythe_metadata.lease_records import Resource
from hythe_metadata.records import Edge, Key
from tests.fakes.gc_owners import SNAPSHOTTER
from tests.fakes.gc_world import NAMESPACE, World, digest, refers_to

SNAPSHOT = f"snapshot/{SNAPSHOTTER}"


async def why(world: World, name: str, kind: str = "", *, within_s: float | None = 600.0) -> Answer:
    """Ask why something is kept, after a look at what the owners have."""
    await world.collect(dry_run=True)
    explainer = Explainer(world.store, world.owners, world.collector.ended, lambda: within_s)
    return await explainer.why(NAMESPACE, name, kind)


def names(answer: Answer) -> list[list[str]]:
    """Return the names on each path."""
    return [[step.node.name for step in path] for path in answer.paths]


async def test_each_root_has_its_shortest_path_and_short_ones_come_first() -> None:
    """However many ways lead from a root to a blob, the shortest one is shown, once."""
    world = await World().begin()
    world.publish("h1", "index", refers_to("manifest", "layer"))
    world.publish("h1", "manifest", refers_to("layer"))
    world.publish("h1", "layer")
    await world.image("long:1", "manifest")
    await world.image("short:1", "index")
    await world.lease("l1", Resource("content", digest("layer")))
    assert names(await why(world, digest("layer"))) == [
        ["l1", digest("layer")],
        ["long:1", digest("manifest"), digest("layer")],
        ["short:1", digest("index"), digest("layer")],
    ]


async def test_no_more_than_a_hundred_paths_are_shown() -> None:
    """A base layer of a thousand images gets an answer that can be read."""
    world = await World().begin()
    world.publish("h1", "layer")
    for number in range(MOST_PATHS + 20):
        await world.image(f"i:{number}", "layer")
    assert len((await why(world, digest("layer"))).paths) == MOST_PATHS


async def test_digest_may_be_shortened_as_long_as_it_is_unique() -> None:
    """A beginning that means two blobs names both."""
    world = await World().begin()
    one, two = f"sha256:{'a' * 63}0", f"sha256:{'a' * 63}1"
    for each in (one, two):
        world.owners.distributions["h1"].publish(NAMESPACE, each)
    with pytest.raises(InvalidArgument, match=f"{one}, {two}"):
        await why(world, "sha256:aaaa")
    assert (await why(world, "a" * 63 + "1")).name == two
    assert await world.store.read(find_content(NAMESPACE, "aaa")) == []


async def test_what_is_nowhere_is_not_found() -> None:
    """Neither a blob nor a snapshot has the name, and nothing refers to one."""
    world = await World().begin()
    with pytest.raises(NotFound):
        await why(world, digest("nothing"))
    with pytest.raises(NotFound):
        await why(world, "no-snapshot")


async def test_what_is_referred_to_and_missing_is_said_to_be_missing() -> None:
    """An image whose blob no host has still shows what refers to it."""
    world = await World().begin()
    await world.image("a:1", "lost")
    answer = await why(world, digest("lost"))
    assert not answer.exists
    assert names(answer) == [["a:1", digest("lost")]]


@pytest.mark.parametrize(("within_s", "said"), [(600.0, ", within 10 min"), (5.0, ", within 5 s"), (None, "")])
async def test_garbage_goes_with_the_next_collection(within_s: float | None, said: str) -> None:
    """When nothing keeps it the answer is when it goes, as far as that is known."""
    world = await World().begin()
    world.publish("h1", "old")
    answer = await why(world, digest("old"), within_s=within_s)
    assert (answer.paths, answer.goes) == ([], f"with the next collection{said}")


async def test_what_only_leases_keep_goes_when_they_end() -> None:
    """An operation in flight, and a lease with a time, are named as what will end."""
    world = await World().begin()
    world.publish("h1", "layer")
    await world.refer("pull-1", {"layer": {}})
    await world.lease(
        "held", Resource("content", digest("layer")), labels={"containerd.io/gc.expire": "2999-01-01T00:00:00Z"}
    )
    answer = await why(world, digest("layer"))
    assert answer.goes == (
        "when lease held expires at 2999-01-01T00:00:00Z; "
        "held by an operation in flight: lease pull-1 ends 60 s after it is last renewed"
    )
    await world.image("a:1", "layer")
    assert (await why(world, digest("layer"))).goes == ""


async def test_flat_lease_explains_only_what_it_names() -> None:
    """What a flat lease's blob refers to isn't kept by it, and isn't said to be."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    await world.lease("flat", Resource("content", digest("app")), labels={"containerd.io/gc.flat": "yes"})
    answer = await why(world, digest("app"))
    assert [[(step.node.name, step.via) for step in path] for path in answer.paths] == [
        [("flat", "lease, flat"), (digest("app"), "resource")]
    ]
    assert (await why(world, digest("layer"))).paths == []


async def test_blob_that_a_snapshot_refers_to_is_explained_through_what_lies_on_that() -> None:
    """Mounted snapshot → its parent → the parent's label → the blob, across two owners."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    bundle.prepare("lower", labels=refers_to("blob"))
    bundle.prepare("upper", "lower")
    bundle.mounted.add("upper")
    world.publish("h1", "blob")
    answer = await why(world, digest("blob"))
    assert [[(step.node.name, step.via) for step in path] for path in answer.paths] == [
        [("upper", "mounted on h1"), ("lower", "parent"), (digest("blob"), "containerd.io/gc.ref.content.l.0")]
    ]


async def test_snapshot_whose_key_is_a_digest_can_be_asked_for() -> None:
    """Chain ids look like digests of blobs: said to be a snapshot, it is one."""
    world = await World().begin()
    world.owners.bundles["h1"].prepare(digest("chain"))
    answer = await why(world, digest("chain"), "snapshot")
    assert (answer.kind, answer.exists, answer.hosts) == ("snapshot", True, ["h1"])
    assert (await why(world, digest("chain"))).kind == "snapshot"
    with pytest.raises(NotFound):
        await why(world, digest("chain"), "content")


async def test_snapshot_of_whichever_snapshotter_is_explained_where_it_is() -> None:
    """A container whose host chose the snapshotter keeps its snapshot there, and what that lies on."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    bundle.prepare("layer")
    bundle.prepare("c1", "layer")
    await world.put(Key("container", NAMESPACE, "c1"), [Edge("snapshot/*", "c1", "snapshot_key")])
    await world.collect()
    assert world.snapshots("h1") == {"layer", "c1"}
    for name, below in (("c1", []), ("layer", [(SNAPSHOT, "layer", "parent")])):
        answer = await why(world, name)
        steps = [[(step.node.kind, step.node.name, step.via) for step in path] for path in answer.paths]
        assert steps == [[("container", "c1", "container"), (SNAPSHOT, "c1", "snapshot_key"), *below]]
    await world.delete(Key("container", NAMESPACE, "c1"))
    await world.collect()
    assert world.snapshots("h1") == set()


async def drawn(world: World, *wanted: str, namespace: str = NAMESPACE) -> Picture:
    """Draw the graph."""
    await world.collect(dry_run=True)
    found = await world.store.read(reading(world.collector.ended))
    present = await world.store.read(picture.present_records)
    return picture.draw(found, present, namespace, wanted)


def shown(made: Picture) -> set[str]:
    """Return the names of what is shown."""
    return {place.name for place in made.places.values()}


async def test_graph_of_one_thing_has_what_leads_to_it_and_what_it_reaches() -> None:
    """Neighbours that only share something with it are left out."""
    world = await World().begin()
    world.bring("h1", "app", "shared", "own")
    world.bring("h1", "other", "shared")
    await world.image("app:1", "app")
    await world.image("other:1", "other")
    assert shown(await drawn(world, digest("app")[:16])) == {"app:1", digest("app"), digest("shared"), digest("own")}
    assert digest("other") in shown(await drawn(world))
    with pytest.raises(NotFound):
        await drawn(world, "nothing")


async def test_graph_says_what_is_a_root_and_what_is_missing() -> None:
    """Bold and dashed in the picture: images are roots, a blob that nobody has is missing."""
    world = await World().begin()
    await world.image("a:1", "lost")
    places = {place.name: place for place in (await drawn(world)).places.values()}
    assert (places["a:1"].root, places["a:1"].present) == ("image", True)
    assert (places[digest("lost")].root, places[digest("lost")].present) == ("", False)


async def test_pages_of_the_graph_have_every_node_and_edge_once() -> None:
    """However small the pages are, together they are the graph."""
    world = await World().begin()
    for number in range(7):
        world.bring("h1", f"app {number}", "layer", f"own {number}")
        await world.image(f"app:{number}", f"app {number}")
    await world.container("c1", "app 1")
    made = await drawn(world)
    nodes: list[str] = []
    edges: list[Line] = []
    after = ""
    while True:
        page = picture.page(made, after, 3)
        nodes += [node.id for node in page.nodes]
        edges += page.edges
        after = page.next
        if not after:
            break
    assert nodes == sorted(set(nodes))
    assert len(nodes) == len(made.places) == 7 + 7 + 7 + 1 + 2
    assert len(edges) == len(set(edges)) == 7 + 14 + 2
    assert {edge.source for edge in edges} | {edge.target for edge in edges} <= set(nodes)


async def test_graph_of_a_namespace_leaves_others_out() -> None:
    """Namespaces don't see each other's records; all of them are seen by who asks for all."""
    world = await World().begin()
    await world.image("a:1", "app")
    await world.put(Key("image", "other", "b:1"), [Edge("content", digest("app"), "target")])
    assert shown(await drawn(world)) == {"a:1", digest("app")}
    assert shown(await drawn(world, namespace=ALL_NAMESPACES)) == {"a:1", "b:1", digest("app")}


async def test_usage_counts_bytes_once_and_tells_what_would_go() -> None:
    """A blob in two namespaces takes its bytes once; what one image alone needs is its unique size."""
    world = await World("h1", "h2").begin()
    world.bring("h1", "app", "shared", "own")
    world.bring("h1", "other", "shared")
    world.publish("h1", "old")
    world.publish("h2", "old")
    world.owners.distributions["h1"].publish("other", digest("own"))
    world.owners.bundles["h1"].prepare("c1")
    world.owners.bundles["h1"].prepare("left")
    await world.image("app:1", "app")
    await world.image("other:1", "other")
    await world.container("c1", "app")
    world.owners.silent = {("h2", "bundle")}
    await world.collect(dry_run=True)

    found = await usage(world.store, world.owners, world.collector.ended, images=True)
    rows = {(row.host, row.usage.kind): row.usage for row in found.rows}
    assert rows["h1", "images"] == HostUsage("images", 2, 1, 500, 100)
    assert rows["h2", "images"] == HostUsage("images", 0, 0, 100, 100)
    assert rows["h1", "snapshots"] == HostUsage("snapshots", 2, 1, 2000, 1000)
    assert found.silent == ("h2",)
    assert [(image.reference, image.size_bytes, image.unique_bytes, image.containers) for image in found.images] == [
        ("app:1", 300, 200, 1),
        ("other:1", 200, 100, 0),
    ]
