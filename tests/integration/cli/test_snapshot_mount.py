"""`hythe snapshot mount` and `unmount`: real mounts of what the bundle service says."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hythe import subjects
from hythe.cli import snapshot_mount
from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.linux import libc, mounting
from hythe.ports.snapshots import Mount
from tests.fakes.snapshot_desk import SnapshotDesk
from tests.fixtures.secured_bus import HOST, Responder
from tests.integration.cli.conftest import Desk
from tests.integration.linux.layers import points_below


class Host:
    """A host whose bundle service answers, and a directory to mount at."""

    def __init__(self, desk: Desk, snapshots: SnapshotDesk) -> None:
        self.desk = desk
        self.snapshots = snapshots
        self.target = desk.directory / "mount point"
        self.target.mkdir()

    async def mount(self, *arguments: str) -> None:
        """Run `hythe snapshot mount`."""
        await asyncio.to_thread(self.desk.run_here, snapshot_mount, "snapshot", "mount", *arguments)

    async def unmount(self, *arguments: str) -> None:
        """Run `hythe snapshot unmount`."""
        await asyncio.to_thread(self.desk.run_here, snapshot_mount, "snapshot", "unmount", *arguments)

    def mounted(self) -> list[str]:
        """Return what is mounted below the test's directory, by name."""
        return [Path(point).name for point in points_below(self.desk.directory)]


@pytest.fixture
async def host(desk: Desk) -> AsyncIterator[Host]:
    """A host with snapshots below its root; what is mounted at the end is unmounted."""
    snapshots = SnapshotDesk(desk.directory / "root" / "bundle" / "snapshots")
    bundle = Responder(await desk.bus.client("bundle"), snapshots.answer)
    try:
        await bundle.listen(subjects.host_rpc_of_service(HOST, "bundle"))
        yield Host(desk, snapshots)
    finally:
        for point in reversed(points_below(desk.directory)):
            libc.umount(point, libc.MNT_DETACH)
        await bundle.client.close()


def names(directory: Path) -> set[str]:
    """Return the names in a directory."""
    return {path.name for path in directory.iterdir()}


async def test_committed_snapshot_is_shown_by_a_view_that_goes_with_the_mount(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its layers are seen, nothing can be written, and afterwards neither mount nor view is there."""
    await host.mount("layer", str(host.target), "--json")
    assert json.loads(capsys.readouterr().out)["target"] == str(host.target)
    assert names(host.target) == {"base", "layer"}
    labels = host.snapshots.views["layer"]
    assert labels.keys() == {"hythe.mounted-at", "containerd.io/gc.root"}  # so that no collection takes it away
    assert labels["hythe.mounted-at"] == str(host.target)
    with pytest.raises(OSError, match="Read-only"):
        (host.target / "x").touch()
    await host.unmount(str(host.target))
    assert host.mounted() == [] and host.snapshots.views == {}


async def test_lowest_layer_is_shown_by_a_bind_mount(host: Host) -> None:
    """A snapshot of one layer is mounted and unmounted like any other."""
    await host.mount("base", str(host.target))
    assert names(host.target) == {"base"}
    await host.unmount(str(host.target))
    assert host.mounted() == [] and host.snapshots.views == {}


@pytest.mark.parametrize("arguments", [("base",), ("layer",), ("open",), ("--rw", "open")])
async def test_mounted_snapshot_gives_nobody_rights(host: Host, arguments: tuple[str, ...]) -> None:
    """Set-id programs and devices of an image mean nothing where it is mounted, whoever on this host may go there."""
    await host.mount(*arguments, str(host.target))
    flags = os.statvfs(host.target).f_flag
    assert flags & os.ST_NOSUID and flags & os.ST_NODEV
    await host.unmount(str(host.target))


@pytest.mark.parametrize("name", ["open", "whole"])
async def test_active_snapshot_is_written_to_only_when_asked_for(host: Host, name: str) -> None:
    """Read-only is the default also for what a container wrote; with --rw it can be changed."""
    await host.mount(name, str(host.target))
    assert name in names(host.target)
    with pytest.raises(OSError, match="Read-only"):
        (host.target / "x").touch()
    await host.unmount(str(host.target))
    await host.mount("--rw", name, str(host.target))
    (host.target / "x").touch()
    await host.unmount(str(host.target))
    assert (host.snapshots.directory / name / "fs" / "x").exists()
    assert host.mounted() == []


@pytest.mark.parametrize("name", ["open", "whole"])
async def test_snapshot_of_a_running_container_is_refused(host: Host, name: str) -> None:
    """What something writes to isn't mounted a second time; the message names the way that works."""
    rootfs = host.desk.directory / "root" / "rootfs"
    rootfs.mkdir()
    (each,) = host.snapshots.mounts(name)
    mounting.mount(Mount(each["type"], each["source"], "", tuple(each["options"])), str(rootfs))
    for flags in ((), ("--rw",)):
        with pytest.raises(FailedPrecondition, match=f"it is mounted at {rootfs}") as raised:
            await host.mount(*flags, name, str(host.target))
        assert "hythe cp" in raised.value.next_step
    with pytest.raises(FailedPrecondition, match="did not mount it"):
        await host.unmount(str(rootfs))
    assert host.mounted() == ["rootfs"]


async def test_committed_snapshot_is_never_writable(host: Host) -> None:
    """Layers are shared by images and containers."""
    with pytest.raises(FailedPrecondition, match="it is committed, so it is never written to"):
        await host.mount("--rw", "layer", str(host.target))
    assert host.mounted() == [] and host.snapshots.views == {}


async def test_second_mount_at_one_directory_is_refused(host: Host) -> None:
    """The first stays as it is."""
    await host.mount("layer", str(host.target))
    with pytest.raises(FailedPrecondition, match=f"one is mounted at {host.target} already"):
        await host.mount("base", str(host.target))
    await host.unmount(str(host.target))
    assert host.mounted() == [] and host.snapshots.views == {}


async def test_what_a_killed_command_leaves_is_cleared_by_unmount_and_by_the_next_mount(host: Host) -> None:
    """Killed between view and mount there is a view alone; both ways on find it."""
    for again in (host.unmount, lambda target: host.mount("base", target)):
        await host.mount("layer", str(host.target))
        libc.umount(str(host.target), 0)
        assert list(host.snapshots.views) == ["layer"]
        await again(str(host.target))
        assert "layer" not in host.snapshots.views


async def test_mount_that_fails_leaves_no_view(host: Host) -> None:
    """A layer that is gone is named, and the view goes again."""
    gone = host.snapshots.directory / "base" / "fs"
    gone.rename(gone.parent / "elsewhere")
    with pytest.raises(FailedPrecondition, match="mount snapshot layer at") as raised:
        await host.mount("layer", str(host.target))
    assert str(gone) in raised.value.cause
    assert host.mounted() == [] and host.snapshots.views == {}


async def test_other_mounts_are_never_unmounted(host: Host) -> None:
    """A disk, or nothing at all, at the directory is left alone."""
    with pytest.raises(FailedPrecondition, match="no snapshot is mounted there"):
        await host.unmount(str(host.target))
    libc.mount("disk", str(host.target), "tmpfs", 0, "")
    with pytest.raises(FailedPrecondition, match=r"did not mount it \(it is tmpfs from disk\)"):
        await host.unmount(str(host.target))
    assert host.mounted() == ["mount point"]


async def test_busy_mount_stays_and_can_be_unmounted_later(host: Host) -> None:
    """Somebody works in it: nothing is taken away under him."""
    await host.mount("layer", str(host.target))
    with (host.target / "base").open(), pytest.raises(FailedPrecondition, match="unmount") as raised:
        await host.unmount(str(host.target))
    assert "busy" in raised.value.cause and list(host.snapshots.views) == ["layer"]
    await host.unmount(str(host.target))
    assert host.mounted() == [] and host.snapshots.views == {}


async def test_unknown_snapshot_and_missing_directory_are_named(host: Host) -> None:
    """Wrong arguments change nothing."""
    with pytest.raises(NotFound, match="find snapshot nope"):
        await host.mount("nope", str(host.target))
    with pytest.raises(InvalidArgument, match="there is no such directory"):
        await host.mount("layer", str(host.target / "nowhere"))
    assert host.mounted() == [] and host.snapshots.views == {}
