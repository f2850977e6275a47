"""Containers whose root is no root of the host: files fit their ids, and nobody else comes to them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition
from hythe.linux import mountinfo
from hythe_runtime.agent.adapters.mounts import KernelMounts, unmount_below
from tests.fakes.bundles import make_base, make_bundle
from tests.integration.agent.host import NAMESPACE, AgentHost, Output

IDS = [{"container_id": 0, "host_id": 100000, "size": 65536}]
NAMESPACES = {"user_ids": IDS}
SCRIPT = """
id -u
cat /proc/self/uid_map /proc/self/gid_map
ls -lnd / /bin/busybox /etc/of-1000 | while read mode links user group rest; do echo $user $group; done
echo written > /tmp/new
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A root file system with a file of user 1000, and one that would make anybody root."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-base-"))
    try:
        made = make_base(directory / "base")
        (made / "bin" / "ls").symlink_to("busybox")
        (made / "etc" / "of-1000").touch()
        os.chown(made / "etc" / "of-1000", 1000, 1000)
        shutil.copy(made / "bin" / "busybox", made / "bin" / "busybox-setuid")
        (made / "bin" / "busybox-setuid").chmod(0o4755)
        yield made
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    """A stack's directory for root alone; what is mounted there is unmounted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-userns-"))
    try:
        yield directory
    finally:
        unmount_below(directory)
        shutil.rmtree(directory)


def mode(path: Path) -> int:
    """Return the permission bits of a path."""
    return stat.S_IMODE(path.stat().st_mode)


def owner(path: str) -> int:
    """Return the user that a path belongs to."""
    return Path(path).stat().st_uid


def can_run(program: Path, user: int) -> bool:
    """Tell whether a user of the host can run a program."""
    try:
        return subprocess.run([program, "true"], user=user, group=user, extra_groups=[], check=False).returncode == 0
    except PermissionError:
        return False


async def test_container_of_mapped_users_runs_with_files_that_fit(host: AgentHost, base: Path) -> None:
    """Inside it is root and the image's files are its own; on the host it is user 100000 and so is what it writes."""
    host.use_base(base)
    host.start_agent()
    output = Output()
    await output.subscribe(host.admin)
    order = host.order("sh", "-c", SCRIPT, io=output.open, namespaces=NAMESPACES)
    assert (await host.run(order)).exit_code == 0
    await output.complete(host.admin)
    uid, *maps = output.streams["stdout"].decode().splitlines()
    assert (uid, bytes(output.streams["stderr"])) == ("0", b"")
    assert [line.split() for line in maps[:2]] == [["0", "100000", "65536"]] * 2
    assert maps[2:] == ["0 0", "0 0", "1000 1000"]
    bundle = host.directory / "bundle" / "bundles" / NAMESPACE / order.id
    new = (bundle / "upper" / "tmp" / "new").stat()
    assert (new.st_uid, new.st_gid) == (100000, 100000)
    assert (base / "etc" / "of-1000").stat().st_uid == 1000
    assert mode(bundle) == 0o710 and bundle.stat().st_gid == 100000
    await host.remove(order.id)
    await host.gone(order.id)
    assert host.left_behind() == []


async def test_container_without_a_map_keeps_its_bundle_for_root_alone(host: AgentHost) -> None:
    """Nothing is opened for a container that doesn't need it."""
    host.start_agent()
    order = host.order("true")
    assert (await host.run(order)).exit_code == 0
    assert mode(host.directory / "bundle" / "bundles" / NAMESPACE / order.id) == 0o700
    assert mode(host.directory) == 0o700


async def test_nobody_but_the_mapped_root_comes_to_a_program_with_setuid(place: Path, base: Path) -> None:
    """Another user of the host finds no way into the root file system, be it of this container or of one without a map."""
    mapped = make_bundle(place / "bundles" / "c1", base, {"namespaces": NAMESPACES}, "/none")
    plain = make_bundle(place / "bundles" / "c2", base, {}, "/none")
    mounts = KernelMounts(place)
    for bundle in (mapped, plain):
        await mounts.mount(bundle)
    assert [mode(place), mode(place / "bundles")] == [0o711, 0o755]
    assert [mode(place / "bundles" / name) for name in ("c1", "c2")] == [0o710, 0o700]
    programs = [Path(bundle.rootfs) / "bin" / "busybox-setuid" for bundle in (mapped, plain)]
    assert [can_run(program, 12345) for program in programs] == [False, False]
    assert [can_run(program, 100000) for program in programs] == [True, False]
    for bundle in (mapped, plain):
        await mounts.unmount(bundle)


async def test_second_mount_leaves_the_root_directory_to_whom_the_container_gave_it(place: Path, base: Path) -> None:
    """The upper directory is given to the container's root once; a change of owner from inside survives a restart."""
    bundle = make_bundle(place / "c", base, {"namespaces": NAMESPACES}, "/none")
    mounts = KernelMounts(place)
    await mounts.mount(bundle)
    assert owner(bundle.rootfs) == 100000
    os.chown(bundle.rootfs, 100005, 100005)
    await mounts.unmount(bundle)
    await mounts.mount(bundle)
    assert owner(bundle.rootfs) == 100005
    await mounts.unmount(bundle)


async def test_way_that_is_closed_above_the_stack_is_named(place: Path, base: Path) -> None:
    """What isn't the stack's isn't opened: the message says which directory, and nothing is mounted."""
    bundle = make_bundle(place / "stack" / "c", base, {"namespaces": NAMESPACES}, "/none")
    with pytest.raises(FailedPrecondition, match=f"can't pass {place}$") as raised:
        await KernelMounts(place / "stack").mount(bundle)
    assert f"chmod o+x {place}" in raised.value.next_step
    assert mode(place) == 0o700 and bundle.rootfs not in mountinfo.points()
