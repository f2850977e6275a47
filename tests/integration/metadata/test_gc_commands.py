"""The commands about garbage, on a real bus: metadata's collections with owners that answer on their host's subjects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hythe.bus.service import Service
from hythe.gc_trust import Trust
from hythe_metadata.records import NO_NAMESPACE, Key
from hythe_metadata.wiring_gc import collecting
from tests.fakes.gc_desk import GcDesk
from tests.fakes.gc_owners import SNAPSHOTTER
from tests.fakes.gc_world import NAMESPACE, World, digest
from tests.fixtures.peers import Peers, figure
from tests.fixtures.secured_bus import HOST
from tests.fixtures.servers import NatsServer
from tests.integration.cli.conftest import Desk

REF_SNAPSHOT = f"containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"


class Collecting:
    """Metadata's collections and the owners of one host on a bus; commands run as processes.

    Attributes:
        world: the store and the owners; its own collector isn't used.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.peers = Peers(desk.directory / "root", desk.bus)
        self.world = World(HOST)
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start everything, with an image, its unpacked layer, and some garbage."""
        await self.world.register()
        for owner in ("distribution", "bundle"):
            await self.peers.service(owner, GcDesk(self.world.owners, HOST, owner).register)
        self.process = await self.peers.process("metadata")
        service = Service(self.process, "metadata")
        collections = collecting(self.process, service, self.world.store, self.world.lease_clock)
        await self._stack.enter_async_context(collections)
        await service.start()
        self._stack.push_async_callback(service.stop)
        world, bundle = self.world, self.world.owners.bundles[HOST]
        world.bring(HOST, "app", "config", "layer")
        world.publish(HOST, "config", {REF_SNAPSHOT: "chain"})
        world.publish(HOST, "garbage")
        await world.image("example.org/app:1", "app")
        bundle.prepare("chain")
        bundle.prepare("c1", "chain")
        bundle.prepare("left")
        await world.container("c1", "app")

    async def hythe(self, *arguments: str) -> str:
        """Run a command that must not fail, and return what it says on stdout."""
        code, out, err = await self.desk.run(*arguments)
        assert code == 0, err
        return out

    async def close(self) -> None:
        """Stop everything."""
        await self._stack.aclose()
        await self.peers.close()


@pytest.fixture
async def lab(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Collecting]:
    """A running metadata with one host."""
    desk = Desk(tmp_path, start_nats)
    made = Collecting(desk)
    try:
        await made.start()
        yield made
    finally:
        await made.close()
        await desk.close()


async def test_gc_removes_what_nothing_refers_to_and_says_so(lab: Collecting) -> None:
    """`hythe gc --dry-run` lists what would go, `hythe gc` lets it go, and the figures count it."""
    out = await lab.hythe("gc", "--dry-run")
    assert f"content    default     {digest('garbage')}   100 B" in out
    assert "snapshot               left" in out
    assert "would remove 1 blob, 1 snapshot, freeing 1.1 kB" in out
    assert lab.world.blobs(HOST) == 4

    out = await lab.hythe("gc")
    assert "removed 1 blob, 1 snapshot, freed 1.1 kB" in out
    assert [line.split()[:4] for line in out.splitlines() if line.startswith(HOST)] == [
        [HOST, "bundle", "swept", "1"],
        [HOST, "distribution", "swept", "1"],
    ]
    assert lab.world.has(HOST, "app", "config", "layer")
    assert lab.world.snapshots(HOST) == {"chain", "c1"}
    assert figure(lab.process.metrics, "hythe_metadata_gc_removed_total") == 2
    assert figure(lab.process.metrics, "hythe_metadata_gc_freed_bytes_total") == 1100
    assert figure(lab.process.metrics, "hythe_metadata_gc_collections_total", outcome="dry run") == 1


async def test_gc_as_json_is_one_report(lab: Collecting) -> None:
    """Scripts get what went, where, and what became of each owner."""
    report = json.loads(await lab.hythe("gc", "--json"))
    assert report["removed"] == 2
    assert {item["name"] for item in report["items"]} == {digest("garbage"), "left"}
    assert {(host["owner"], host["state"]) for host in report["hosts"]} == {
        ("distribution", "swept"),
        ("bundle", "swept"),
    }


async def test_gc_on_a_host_that_does_not_trust_the_store_needs_a_confirmation(lab: Collecting) -> None:
    """Without --confirm nothing goes there, and the command says what to do."""
    for owner in (lab.world.owners.distributions[HOST], lab.world.owners.bundles[HOST]):
        owner.trust = Trust()
    code, out, err = await lab.desk.run("gc")
    assert code == 0
    assert "removed nothing" in out
    assert f"bundle on {HOST} doesn't trust this metadata store (unknown store)" in err
    assert "`hythe gc --confirm`" in err
    assert lab.world.blobs(HOST) == 4
    assert "removed 1 blob, 1 snapshot" in await lab.hythe("gc", "--confirm")


async def test_gc_names_a_host_that_is_away(lab: Collecting) -> None:
    """A host without its services doesn't hold the others up."""
    await lab.world.put(Key("host", NO_NAMESPACE, "far"))
    out = await lab.hythe("gc")
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("far")] == [
        ["far", "bundle", "unreachable"],
        ["far", "distribution", "unreachable"],
    ]
    assert lab.world.blobs(HOST) == 3


async def test_why_shows_the_path_from_each_root(lab: Collecting) -> None:
    """A blob is found by the beginning of its digest, and each step names the label or field."""
    await lab.hythe("gc")
    lines = (await lab.hythe("gc", "why", digest("layer")[:20])).splitlines()
    assert lines[0] == f"content {digest('layer')} on {HOST}, 100 B: kept"
    assert lines[2:5] == [
        "container c1 (namespace default)",
        f"  └ image → content {digest('app')}",
        f"    └ containerd.io/gc.ref.content.l.1 → content {digest('layer')}",
    ]
    assert lines[6:9] == [
        "image example.org/app:1 (namespace default)",
        f"  └ target → content {digest('app')}",
        f"    └ containerd.io/gc.ref.content.l.1 → content {digest('layer')}",
    ]


async def test_why_of_a_snapshot_asks_its_host_what_lies_on_it(lab: Collecting) -> None:
    """A layer stays because the container's writable snapshot lies on it, and because its image has it."""
    lab.world.owners.bundles[HOST].mounted.add("c1")
    await lab.hythe("gc")
    answer = json.loads(await lab.hythe("gc", "why", "chain", "--json"))
    steps = [[(step["kind"], step["name"], step["via"]) for step in path] for path in answer["paths"]]
    snapshot = f"snapshot/{SNAPSHOTTER}"
    assert [(snapshot, "c1", f"mounted on {HOST}"), (snapshot, "chain", "parent")] in steps
    assert [path[-1] for path in steps if path[0][0] == "image"] == [(snapshot, "chain", REF_SNAPSHOT)]
    assert answer["hosts"] == [HOST]


async def test_why_says_when_garbage_goes(lab: Collecting) -> None:
    """What nothing keeps goes with the next collection; what is nowhere is not found."""
    await lab.hythe("gc", "--dry-run")
    out = await lab.hythe("gc", "why", digest("garbage"))
    assert out.startswith(
        f"content {digest('garbage')} on {HOST}, 100 B: nothing keeps it; goes with the next collection, within"
    )
    code, _, err = await lab.desk.run("gc", "why", "sha256:" + "0" * 64)
    assert code == 3
    assert "nothing refers to one" in err


async def test_system_df_adds_up_what_is_there(lab: Collecting) -> None:
    """Sizes, what is in use, and what the next collection would give back."""
    await lab.hythe("gc", "--dry-run")
    lines = [line.split("   ") for line in (await lab.hythe("system", "df", "-v")).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert ["Images", "1", "1", "400 B", "100 B (25%)"] in cells
    assert ["Snapshots", "3", "2", "3.0 kB", "1.0 kB (33%)"] in cells
    assert ["default", "example.org/app:1", digest("app")[7:19], "300 B", "300 B", "1"] in cells


async def test_metadata_graph_names_the_label_of_each_edge(lab: Collecting) -> None:
    """The graph of one image has all that it reaches, with the labels and fields, and nothing else."""
    await lab.hythe("gc", "--dry-run")
    out = await lab.hythe("metadata", "graph", "example.org/app:1")
    app, layer = f"content {NAMESPACE} {digest('app')}", f"content {NAMESPACE} {digest('layer')}"
    assert out.startswith("digraph hythe {\n")
    assert out.endswith("}\n")
    assert f'  "image {NAMESPACE} example.org/app:1" -> "{app}" [label="target"];' in out
    assert f'  "{app}" -> "{layer}" [label="containerd.io/gc.ref.content.l.1"];' in out
    assert digest("garbage") not in out

    objects = [json.loads(line) for line in (await lab.hythe("metadata", "graph", "--format", "json")).splitlines()]
    nodes = {node["node"]["id"]: node["node"] for node in objects if "node" in node}
    assert nodes[app]["present"]
    assert nodes[f"image {NAMESPACE} example.org/app:1"]["root"] == "image"
    assert {edge["edge"]["target"] for edge in objects if "edge" in edge} <= nodes.keys()
