"""Copies of the native snapshotter: exact in all that a file has, beside other work, and nothing when they fail."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hythe.errors import NotFound, ResourceExhausted
from hythe_bundle.adapters import tree_copy
from hythe_bundle.adapters.native import NativeSnapshotter
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from scripts.lab.images import ImageBuilder, Layer
from tests.fakes.blobs import LocalBlobs
from tests.fixtures.bundles import Rig
from tests.fixtures.snapshots import Body, commit, described, run_process, shown, special_files, stage, write
from tests.fixtures.waiting import eventually_async

MIB = 1 << 20
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
async def native(tmp_path: Path) -> AsyncIterator[Body]:
    """A native snapshotter."""
    made = Body("native", tmp_path / "native")
    yield made
    await made.close()


def everything(directory: Path) -> None:
    """Make one of all that a layer can have."""
    write(a="1", d__b="2", d__e__c="3")(directory)
    special_files(directory)
    (directory / "l").symlink_to("a")
    os.link(directory / "a", directory / "d/e/a2")
    os.link(directory / "l", directory / "d/l2", follow_symlinks=False)
    os.link(directory / "pipe", directory / "d/pipe2")
    (directory / os.fsdecode(b"\xff")).write_text("odd")
    for number, path in enumerate(sorted(directory.rglob("*"))):
        os.chown(path, number, number + 1, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o3711 if path.is_dir() else 0o6751)
    os.setxattr(directory / "a", "user.x", b"\0y")
    os.setxattr(directory / "l", "trusted.x", b"z", follow_symlinks=False)
    os.setxattr(directory / "d", "system.posix_acl_default", default_acl())
    os.setxattr(directory / "d/b", "security.capability", CAPABILITY)
    for number, path in enumerate(sorted(directory.rglob("*"), reverse=True)):
        os.utime(path, ns=(number + 7, 1_000_000_000 + number * 1_000_003), follow_symlinks=False)


def default_acl() -> bytes:
    """Return an ACL in the kernel's form: for the owner, user 1000, the group, the mask and others."""
    entries = [(1, 7, -1), (2, 5, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    return (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + mode.to_bytes(2, "little") + (who & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, mode, who in entries
    )


async def test_copy_is_exact(native: Body, tmp_path: Path) -> None:
    """Owner, mode, attributes, ACLs, capabilities, times, links, devices, pipes and sockets are as in the original."""
    await commit(native.snapshots, "base", "", everything)
    mounts = await native.snapshots.prepare("one", "base")
    with shown(await native.snapshots.look("base"), tmp_path / "a") as base, shown(mounts, tmp_path / "b") as copy:
        for name in ("a", "d/b", "d/e/c", "pipe", "device"):  # of others, looking at them changes it
            assert (copy / name).lstat().st_atime_ns == (base / name).lstat().st_atime_ns
        assert described(copy, times=True) == described(base, times=True)
        assert (copy / "d/e/a2").samefile(copy / "a") and not (copy / "a").samefile(base / "a")
        assert os.getxattr(copy / "d/b", "security.capability") == CAPABILITY


async def test_holes_stay_holes(native: Body, tmp_path: Path) -> None:
    """A sparse file takes no more room in a copy, wherever its data lies."""

    def fill(directory: Path) -> None:
        for name, at in {"start": [0], "middle": [3, 9], "end": [15], "none": []}.items():
            with (directory / name).open("wb") as file:
                for place in at:
                    file.seek(place * MIB)
                    file.write(os.urandom(70_000))
                file.truncate(16 * MIB)

    await commit(native.snapshots, "base", "", fill)
    mounts = await native.snapshots.prepare("one", "base")
    with shown(await native.snapshots.look("base"), tmp_path / "a") as base, shown(mounts, tmp_path / "b") as copy:
        for name in ("start", "middle", "end", "none"):
            assert (copy / name).read_bytes() == (base / name).read_bytes()
            assert (copy / name).stat().st_blocks <= (base / name).stat().st_blocks + 16


def test_copy_between_file_systems_is_exact(tmp_path: Path) -> None:
    """Where the kernel can't copy by itself, the copy is the same."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        source, target = Path(memory), tmp_path / "copy"
        write(a="1", d__b="2" * 3_000_000)(source)
        special_files(source)
        with (source / "holes").open("wb") as file:
            file.seek(9 * MIB)
            file.write(b"x")
        target.mkdir()
        tree_copy.copy(source, target)
        assert described(target, times=True) == described(source, times=True)
        assert (target / "holes").stat().st_blocks <= 16


def random_layer(choose: random.Random) -> Callable[[Path], None]:
    """Return a function that makes a layer in overlayfs's form; the same each time it is called."""
    seed = choose.random()

    def fill(top: Path) -> None:
        pick = random.Random(seed)
        directories = [top]
        for _ in range(30):
            path = pick.choice(directories) / pick.choice("abcde")
            if os.path.lexists(path):
                continue
            kind = pick.choice(
                ["file", "file", "directory", "directory", "opaque", "link", "whiteout", "whiteout", "twin"]
            )
            if kind in ("directory", "opaque"):
                path.mkdir()
                path.chmod(pick.choice([0o700, 0o755, 0o1777]))
                if kind == "opaque":
                    os.setxattr(path, "trusted.overlay.opaque", b"y")
                directories.append(path)
            elif kind == "link":
                path.symlink_to(pick.choice(["nowhere", "/etc", "..", "../nowhere/a"]))
            elif kind == "whiteout":
                os.mknod(path, 0o020000, 0)
            elif kind == "twin" and (files := sorted(p for p in top.rglob("*") if p.is_file() and not p.is_symlink())):
                os.link(pick.choice(files), path)
            else:
                path.write_text(str(pick.random()))
                os.chown(path, pick.randrange(9), 0)
        for path in sorted(top.rglob("*")):
            os.utime(path, ns=(5, pick.randrange(10**18)), follow_symlinks=False)

    return fill


@pytest.mark.parametrize("seed", range(8))
async def test_layers_show_the_same_as_on_overlayfs(tmp_path: Path, seed: int) -> None:
    """Whiteouts, opaque and undescribed directories mean the same in a copy as in a stack, to the nanosecond."""
    choose = random.Random(seed)
    layers = [random_layer(choose) for _ in range(5)]
    hiding = choose.randrange(8)
    implied = [choose.sample([b"a", b"a/b", b"b", b"c", b"c/a", b"d/e"], 3) for _ in layers]
    bodies = [Body(name, tmp_path / name) for name in ("overlay", "native")]
    try:
        for body in bodies:
            parent = ""
            for number, fill in enumerate(layers):
                made = await stage(body.snapshots, fill)
                name, paths = f"layer-{number}", sorted(implied[number])
                await body.snapshots.commit_stage(made, name, parent, implied=paths, opaque=number == hiding)
                parent = name
        for number in range(len(layers)):
            seen = []
            for body in bodies:
                with shown(await body.snapshots.look(f"layer-{number}"), tmp_path / "m") as point:
                    found = described(point, times=True)
                    del found["."]
                    seen.append(found)
            assert seen[0] == seen[1]
    finally:
        for body in bodies:
            await body.close()


DEEP = [f"directory-{number:010}" for number in range(300)]


def at_the_bottom(top: Path) -> int:
    """Open the deepest directory of a tree whose paths are longer than the kernel takes; made where it is missing."""
    place = os.open(top, os.O_RDONLY)
    for name in DEEP:
        try:
            os.mkdir(name, dir_fd=place)
        except FileExistsError:
            pass
        place, above = os.open(name, os.O_RDONLY, dir_fd=place), place
        os.close(above)
    return place


async def test_tree_deeper_than_any_path_is_copied(native: Body, tmp_path: Path) -> None:
    """What a container nests below 6,000 characters is copied, measured and removed like anything else."""
    with shown(await native.snapshots.prepare("key", ""), tmp_path / "m") as point:
        bottom = at_the_bottom(point)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=bottom))
        os.link("file", "twin", src_dir_fd=bottom, dst_dir_fd=bottom)
        os.close(bottom)
    await native.snapshots.commit("deep", "key")
    with shown(await native.snapshots.prepare("copy", "deep"), tmp_path / "m") as point:
        bottom = at_the_bottom(point)
        assert sorted(os.listdir(bottom)) == ["file", "twin"]  # noqa: PTH208 (no path is that long)
        assert os.stat("twin", dir_fd=bottom).st_nlink == 2
        os.close(bottom)
    assert (await native.snapshots.usage("copy")).inodes == len(DEEP) + 2
    for name in ("copy", "deep"):
        await native.snapshots.remove(name)
    await native.snapshots.close()
    assert native.places() == set()


def many(directories: int) -> Callable[[Path], None]:
    """Return a function that makes a tree which takes a while to copy."""
    names = [f"d{number}__f{other}" for number in range(directories) for other in range(20)]
    return write(**dict.fromkeys(names, "x" * 100))


async def test_others_have_their_turn_while_files_are_copied(native: Body) -> None:
    """The event loop goes round while a large snapshot is prepared."""
    await commit(native.snapshots, "base", "", many(40))
    task, turns = asyncio.create_task(native.snapshots.prepare("one", "base")), 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    await task
    assert turns > 5


async def test_copy_that_nobody_waits_for_ends_soon(native: Body) -> None:
    """A cancelled prepare stops in the middle of the tree and leaves nothing."""
    await commit(native.snapshots, "base", "", many(90))
    before = native.places()
    task = asyncio.create_task(native.snapshots.prepare("one", "base"))
    await eventually_async(lambda: _is_begun(native, before))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and native.places() == before
    with pytest.raises(NotFound):
        await native.snapshots.stat("one")


async def _is_begun(native: Body, before: set[str]) -> bool:
    new = [native.directory / "snapshots" / name / "fs" for name in native.places() - before]
    return any(place.is_dir() and any(place.iterdir()) for place in new)


@pytest.mark.parametrize("verb", ["prepare", "stage"])
async def test_copy_killed_in_the_middle_leaves_nothing(native: Body, verb: str) -> None:
    """SIGKILL within the tree: nothing is recorded, the half copy goes at the next start, and a repeat works."""
    await commit(native.snapshots, "base", "", write(base__a__b="1", c__d="2", e__f="3"))
    await native.close()
    point = "bundle.snapshot.copy=3*off->kill"
    assert run_process("native", native.directory, verb, "new", "base", failpoints=point) == -signal.SIGKILL
    assert len(native.places()) == 2
    native.reopen()
    assert len(native.places()) == 1
    with pytest.raises(NotFound):
        await native.snapshots.stat("new")
    await native.close()
    assert run_process("native", native.directory, verb, "new", "base") == 0
    native.reopen()
    assert await native.snapshots.stat("new")


def large(directory: Path) -> None:
    """Make a file of 9 MiB."""
    (directory / "f").write_bytes(os.urandom(9 * MIB))


async def test_disk_that_fills_up_in_the_middle_gets_its_room_back(small_disk: Callable[[int], Path]) -> None:
    """A copy that finds no room is removed whole, prepared or committed; what was there is as before."""
    body = Body("native", small_disk(24) / "body")
    try:
        await commit(body.snapshots, "base", "", large)
        made = await stage(body.snapshots, write(a="1"))
        filler = body.directory / "filler"
        filler.write_bytes(os.urandom(6 * MIB))
        free = _free(body)
        for call in (body.snapshots.prepare("one", "base"), body.snapshots.commit_stage(made, "top", "base")):
            with pytest.raises(ResourceExhausted):
                await call
        await body.snapshots.discard(made)
        assert [found.name async for found in body.snapshots.walk()] == ["base"] and len(body.places()) == 1
        assert _free(body) > free - MIB
        filler.unlink()
        await body.snapshots.prepare("one", "base")
    finally:
        await body.close()


def _free(body: Body) -> int:
    found = os.statvfs(body.directory)
    return found.f_bfree * found.f_frsize


async def test_image_is_the_same_on_both_snapshotters(tmp_path: Path) -> None:
    """Real layers, unpacked by the worker, show the same files copied as stacked; a bundle of them is one bind mount."""
    builder = ImageBuilder().config(Cmd=["sh"])
    for layer in (
        Layer()
        .directory("tmp", mode=0o1777)
        .directory("home")
        .directory("home/u", mode=0o700, uid=5)
        .file("a", b"1")
        .file("gone/x", b"2"),
        Layer().file("tmp/b", b"3").file("home/u/c", b"4", uid=5).whiteout("a").hardlink("home/u/d", "tmp/b"),
        Layer().directory("gone").opaque("gone").file("gone/y", b"5").symlink("l", "tmp"),
    ):
        builder = builder.layer(layer)
    image, seen = builder.build(), []
    for kind in (OverlaySnapshotter, NativeSnapshotter):
        rig = Rig(tmp_path / kind.__name__, LocalBlobs(tmp_path / f"{kind.__name__}-blobs"), snapshotter=kind)
        try:
            await rig.unpack(image)
            bundle = await rig.bundles.prepare(rig.request(rig.blobs.add(image)), rig.reports.append)
            with shown(bundle.mounts, bundle.rootfs) as point:
                found = described(point, times=True)
            del found["."]  # no archive describes it
            seen.append(found)
            await rig.bundles.release("default", bundle.path.name)
        finally:
            await rig.close()
    assert [mount.type for mount in bundle.mounts] == ["bind"]
    assert seen[0] == seen[1] and {"home/u/d", "gone/y", "l"} <= seen[0].keys() and not {"a", "gone/x"} & seen[0].keys()
