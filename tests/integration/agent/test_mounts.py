"""What the agent mounts for a container: all of it or nothing, once, and unmounted from the inside out."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition
from hythe.linux import mountinfo, mounting
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.adapters.mounts import KernelMounts, unmount_below
from hythe_runtime.agent.model import Bundle
from tests.fakes.bundles import make_bundle


@pytest.fixture
def bundle(busybox_base: Path) -> Iterator[Bundle]:
    """A bundle whose root file system is an overlay with two mounts in it."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-mounts-"))
    made = make_bundle(directory / "bundle", busybox_base, {"args": ["true"]}, "/none")
    inner = (Mount("tmpfs", "tmpfs", "tmp", ("nosuid",)), Mount("bind", str(busybox_base), "dev", ("rbind", "ro")))
    try:
        yield replace(made, mounts=(*made.mounts, *inner))
    finally:
        unmount_below(directory)
        shutil.rmtree(directory)


def points(bundle: Bundle) -> list[str]:
    """Return what is mounted at and below the root file system, relative to it."""
    return [point.removeprefix(bundle.rootfs) for point in mountinfo.points() if point.startswith(bundle.rootfs)]


async def test_mounts_below_the_root_are_made_once_and_all_go(bundle: Bundle) -> None:
    """A snapshot may be made of several mounts; asking again changes nothing, and nothing is left at the end."""
    mounts = KernelMounts()
    await mounts.mount(bundle)
    await mounts.mount(bundle)
    assert points(bundle) == ["", "/tmp", "/dev"]
    assert (Path(bundle.rootfs) / "dev" / "bin" / "busybox").is_file()
    await mounts.unmount(bundle)
    await mounts.unmount(bundle)
    assert points(bundle) == []


async def test_mount_that_fails_takes_those_before_it_along(bundle: Bundle) -> None:
    """A container that can't be mounted leaves nothing mounted, whichever mount it was; the message names it."""
    wanted = replace(bundle, mounts=(*bundle.mounts, Mount("bind", "/no/such/place", "etc", ("bind",))))
    with pytest.raises(FailedPrecondition, match="failed at etc") as raised:
        await KernelMounts().mount(wanted)
    assert "No such file or directory" in raised.value.cause
    assert points(bundle) == []


async def test_mounts_that_were_there_are_completed(bundle: Bundle) -> None:
    """An agent that was killed between two mounts is followed by one that makes the rest."""
    mounts = KernelMounts()
    await mounts.mount(replace(bundle, mounts=bundle.mounts[:1]))
    await mounts.mount(bundle)
    assert points(bundle) == ["", "/tmp", "/dev"]


async def test_snapshot_that_is_mounted_elsewhere_is_refused(bundle: Bundle) -> None:
    """Somebody who looks into a stopped container by `hythe snapshot mount --rw` doesn't lose what it writes."""
    elsewhere = Path(bundle.path) / "elsewhere"
    elsewhere.mkdir()
    mounting.mount(bundle.mounts[0], str(elsewhere))
    with pytest.raises(FailedPrecondition, match=f"its snapshot is mounted at {elsewhere}"):
        await KernelMounts().mount(bundle)
    assert points(bundle) == []


async def test_cancelled_mount_is_over_when_its_caller_goes_on(bundle: Bundle) -> None:
    """What undoes a container never races with the thread that still mounts."""
    mounts = KernelMounts()
    task = asyncio.create_task(mounts.mount(bundle))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert points(bundle) == ["", "/tmp", "/dev"]
    await mounts.unmount(bundle)
    assert points(bundle) == []
