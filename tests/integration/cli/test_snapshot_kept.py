"""What `hythe snapshot` makes is kept from garbage collection, as `ctr` does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hythe import subjects
from hythe.cli import snapshot_changes
from tests.fakes.snapshot_desk import SnapshotDesk
from tests.fixtures.secured_bus import HOST, Responder
from tests.integration.cli.conftest import Desk

KEPT = "containerd.io/gc.root"


class Host:
    """A host whose bundle service answers."""

    def __init__(self, desk: Desk, snapshots: SnapshotDesk) -> None:
        self.desk = desk
        self.snapshots = snapshots

    async def run(self, function: str, *arguments: str) -> None:
        """Run `hythe snapshot FUNCTION`."""
        await asyncio.to_thread(self.desk.run_here, snapshot_changes, "snapshot", function, *arguments)


@pytest.fixture
async def host(desk: Desk) -> AsyncIterator[Host]:
    """A host with snapshots."""
    snapshots = SnapshotDesk(desk.directory / "root" / "bundle" / "snapshots")
    bundle = Responder(await desk.bus.client("bundle"), snapshots.answer)
    try:
        await bundle.listen(subjects.host_rpc_of_service(HOST, "bundle"))
        yield Host(desk, snapshots)
    finally:
        await bundle.client.close()


@pytest.mark.parametrize(
    ("function", "arguments"), [("prepare", ("new", "layer")), ("view", ("new", "layer")), ("commit", ("new", "open"))]
)
async def test_what_a_user_makes_stays_until_he_removes_it(
    host: Host, function: str, arguments: tuple[str, ...]
) -> None:
    """A snapshot made by hand has the label that keeps it, with the time; one who wants it collected leaves the label out."""
    await host.run(function, *arguments, "-l", "mine=yes")
    labels = host.snapshots.known["new"]["labels"]
    assert labels.keys() == {KEPT, "mine"} and labels[KEPT].endswith("Z")
    del host.snapshots.known["new"]
    await host.run(function, *arguments, "-l", f"{KEPT}=")
    assert host.snapshots.known["new"]["labels"] == {}
    del host.snapshots.known["new"]
    await host.run(function, *arguments, "-l", f"{KEPT}=since ever")
    assert host.snapshots.known["new"]["labels"] == {KEPT: "since ever"}
