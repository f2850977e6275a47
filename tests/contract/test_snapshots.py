"""What every body of the snapshot port promises: layers, mounts and records. `BODIES` has the bodies."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from hythe.ports.snapshots import Snapshotter
from tests.fixtures.snapshots import Body, commit, directory_of, shown, stage, tree, write


async def test_layers_are_stacked_and_writes_stay_apart(snapshots: Snapshotter, tmp_path: Path) -> None:
    """An active snapshot shows its layers merged; what is written to it is in it alone."""
    await commit(snapshots, "base", "", write(a="1", b="1"))
    await commit(snapshots, "top", "base", write(b="2", d__c="2"))
    first, second = await snapshots.prepare("one", "top"), await snapshots.prepare("two", "top")
    with shown(first, tmp_path / "m"):
        assert tree(tmp_path / "m") == {"a": "1", "b": "2", "d/c": "2"}
        (tmp_path / "m" / "a").write_text("mine")
        (tmp_path / "m" / "b").unlink()
    with shown(second, tmp_path / "m"):
        assert tree(tmp_path / "m") == {"a": "1", "b": "2", "d/c": "2"}
    with shown(await snapshots.mounts("one"), tmp_path / "m"):
        assert tree(tmp_path / "m") == {"a": "mine", "d/c": "2"}


async def test_root_directory_is_root_s_and_open_to_read(snapshots: Snapshotter, tmp_path: Path) -> None:
    """Every user of a container can enter its root, whatever the umask of the service."""
    before = os.umask(0o077)
    try:
        await commit(snapshots, "base", "", write(a="1"))
        mounts = await snapshots.prepare("one", "base")
    finally:
        os.umask(before)
    with shown(mounts, tmp_path / "m"):
        assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o755


@pytest.mark.parametrize("layers", [["base"], ["base", "top"]])
async def test_view_shows_layers_and_takes_no_write(snapshots: Snapshotter, tmp_path: Path, layers: list[str]) -> None:
    """A view of one layer or several can be read and never changes them."""
    for below, name in zip(["", *layers], layers, strict=False):
        await commit(snapshots, name, below, write(**{name: name}))
    with shown(await snapshots.view("look", layers[-1]), tmp_path / "m"):
        assert tree(tmp_path / "m") == {name: name for name in layers}
        with pytest.raises(OSError, match="Read-only file system"):
            (tmp_path / "m" / "new").write_text("x")


async def test_snapshot_without_layers_is_an_empty_place(snapshots: Snapshotter, tmp_path: Path) -> None:
    """An image may have no layers at all."""
    with shown(await snapshots.prepare("one", ""), tmp_path / "m"):
        (tmp_path / "m" / "f").write_text("x")
    with shown(await snapshots.mounts("one"), tmp_path / "m"):
        assert tree(tmp_path / "m") == {"f": "x"}


async def test_child_committed_first_waits_for_its_parent(snapshots: Snapshotter) -> None:
    """Layers may be committed in any order; each becomes a snapshot only on top of one."""
    top = asyncio.create_task(commit(snapshots, "top", "middle", write(c="3")))
    middle = asyncio.create_task(commit(snapshots, "middle", "base", write(b="2")))
    await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await snapshots.stat("middle")
    await commit(snapshots, "base", "", write(a="1"))
    await asyncio.gather(top, middle)
    assert [(await snapshots.stat(name)).parent for name in ("base", "middle", "top")] == ["", "base", "middle"]


async def test_unnamed_directories_look_as_below(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A layer that only adds files keeps /tmp sticky and a private home private, however many layers lie between."""

    def base(directory: Path) -> None:
        (directory / "tmp").mkdir()
        (directory / "home" / "u").mkdir(parents=True)
        for name, mode, uid in (("tmp", 0o1777, 0), ("home", 0o755, 0), ("home/u", 0o700, 1000)):
            (directory / name).chmod(mode)
            os.chown(directory / name, uid, uid)
            os.utime(directory / name, ns=(5, 5_000_000_000))
        os.setxattr(directory / "home/u", "user.note", b"mine")

    top = write(tmp__b="2", home__u__f="2", new__g="2")
    implied = [b"home", b"home/u", b"new", b"tmp"]
    waiting = asyncio.create_task(commit(snapshots, "top", "middle", top, implied))
    await commit(snapshots, "base", "", base)
    await commit(snapshots, "middle", "base", write(tmp__a="1"), [b"tmp"])
    await waiting
    with shown(await snapshots.view("look", "top"), tmp_path / "m"):
        found = {name: (tmp_path / "m" / name).stat() for name in ("tmp", "home", "home/u", "new")}
        assert {
            name: (oct(s.st_mode & 0o7777), s.st_uid, s.st_mtime_ns) for name, s in found.items() if name != "new"
        } == {
            "tmp": ("0o1777", 0, 5_000_000_000),
            "home": ("0o755", 0, 5_000_000_000),
            "home/u": ("0o700", 1000, 5_000_000_000),
        }
        assert (found["new"].st_mode & 0o7777, found["new"].st_uid) == (0o755, 0)
        assert os.getxattr(tmp_path / "m" / "home/u", "user.note") == b"mine"


async def test_hidden_directory_is_nobody_s_pattern(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A directory that the layer empties keeps its own mode; what is made in it anew takes none from what was hidden."""

    def base(directory: Path) -> None:
        (directory / "d" / "in").mkdir(parents=True)
        (directory / "d").chmod(0o700)
        (directory / "d" / "in").chmod(0o1777)

    def top(directory: Path) -> None:
        (directory / "d" / "in").mkdir(parents=True)
        os.setxattr(directory / "d", "trusted.overlay.opaque", b"y")

    await commit(snapshots, "base", "", base)
    await commit(snapshots, "top", "base", top, [b"d", b"d/in"])
    with shown(await snapshots.view("look", "top"), tmp_path / "m"):
        assert [oct((tmp_path / "m" / name).stat().st_mode & 0o7777) for name in ("d", "d/in")] == ["0o700", "0o755"]


async def test_directories_below_links_are_found_inside_the_image(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A lower layer's link is followed within the image when it says how a directory looks, and never out of it."""
    (tmp_path / "outside").mkdir(mode=0o1777)

    def base(directory: Path) -> None:
        (directory / "usr").mkdir()
        (directory / "usr" / "lib").mkdir(mode=0o711)
        (directory / "lib").symlink_to("/usr/lib")
        (directory / "out").symlink_to(tmp_path / "outside")
        (directory / "up").symlink_to("../../../../../outside")

    await commit(snapshots, "base", "", base)
    await commit(snapshots, "top", "base", write(lib__a="1", out__b="1", up__c="1"), [b"lib", b"out", b"up"])
    with shown(await snapshots.view("look", "top"), tmp_path / "m"):
        modes = [oct((tmp_path / "m" / name).stat().st_mode & 0o7777) for name in ("lib", "out", "up")]
        assert modes == ["0o711", "0o755", "0o755"]


async def test_layer_that_hides_everything_ends_the_stack(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A root that is said to be opaque shows nothing of what lies below, in it and in what lies on it."""
    await commit(snapshots, "base", "", write(a="1"))
    await snapshots.commit_stage(await stage(snapshots, write(b="2")), "new", "base", opaque=True)
    await commit(snapshots, "top", "new", write(c="3"))
    with shown(await snapshots.prepare("one", "top"), tmp_path / "m"):
        assert tree(tmp_path / "m") == {"b": "2", "c": "3"}
    assert await snapshots.read_file("top", "/a", 10) is None
    with pytest.raises(FailedPrecondition):
        await snapshots.remove("base")


async def test_names_are_unique(snapshots: Snapshotter) -> None:
    """No second snapshot of one name, committed, active or view."""
    await commit(snapshots, "base", "", write(a="1"))
    await snapshots.prepare("one", "base")
    for name in ("base", "one"):
        with pytest.raises(AlreadyExists):
            await snapshots.prepare(name, "base")
        again = await stage(snapshots, write(a="other"))
        with pytest.raises(AlreadyExists):
            await snapshots.commit_stage(again, name, "")
        await snapshots.discard(again)
    assert (await snapshots.stat("base")).kind == "committed"


async def test_layer_committed_twice_at_once_is_one(snapshots: Snapshotter) -> None:
    """Of two layers of one name one wins; the other is told, and leaves nothing when it is discarded."""
    stages = [await stage(snapshots, write(a=text)) for text in "12"]
    done = await asyncio.gather(*(snapshots.commit_stage(s, "base", "") for s in stages), return_exceptions=True)
    assert sorted(type(found).__name__ for found in done) == ["AlreadyExists", "NoneType"]
    for made in stages:
        await snapshots.discard(made)
    assert await snapshots.read_file("base", "/a", 1) == str(1 + done.index(None)).encode()


async def test_what_is_missing_is_said_to_be(snapshots: Snapshotter) -> None:
    """Unknown names and parents are NotFound; an active snapshot is nobody's parent."""
    for call in (snapshots.stat("x"), snapshots.mounts("x"), snapshots.remove("x"), snapshots.read_file("x", "/a", 1)):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        await snapshots.prepare("one", "x")
    await snapshots.prepare("one", "")
    with pytest.raises(InvalidArgument):
        await snapshots.prepare("two", "one")


async def test_committed_snapshot_is_not_mounted_itself(snapshots: Snapshotter) -> None:
    """Layers are shared: only what lies on top of one is ever mounted."""
    await commit(snapshots, "base", "", write(a="1"))
    with pytest.raises(FailedPrecondition):
        await snapshots.mounts("base")


async def test_snapshot_under_another_is_not_removed(snapshots: Snapshotter) -> None:
    """Layers go from the top down."""
    await commit(snapshots, "base", "", write(a="1"))
    await commit(snapshots, "top", "base", write(b="1"))
    await snapshots.prepare("one", "top")
    for name in ("base", "top"):
        with pytest.raises(FailedPrecondition):
            await snapshots.remove(name)
    for name in ("one", "top", "base"):
        await snapshots.remove(name)
    assert [found async for found in snapshots.walk()] == []


async def test_mounted_snapshot_is_not_removed(snapshots: Snapshotter, tmp_path: Path) -> None:
    """What a container may still write to stays until it is unmounted."""
    await commit(snapshots, "base", "", write(a="1"))
    mounts = await snapshots.prepare("one", "base")
    with shown(mounts, tmp_path / "m"), pytest.raises(FailedPrecondition, match="mounted at"):
        await snapshots.remove("one")
    await snapshots.remove("one")


async def test_labels_come_back_with_the_snapshot(body: Body) -> None:
    """What was kept with a snapshot is there after a restart, and in the walk over all."""
    await body.snapshots.commit_stage(await stage(body.snapshots, write(a="1")), "base", "", labels={"k": "v"})
    await body.snapshots.prepare("one", "base", labels={"text": 'with "quotes"\nand lines', "other": ""})
    await body.restart()
    found = {snapshot.name: snapshot async for snapshot in body.snapshots.walk()}
    assert found["base"].labels == {"k": "v"}
    assert found["one"].labels == {"text": 'with "quotes"\nand lines', "other": ""}
    assert (found["one"].kind, found["one"].parent) == ("active", "base")


async def test_committed_layers_and_writes_survive_a_restart(body: Body, tmp_path: Path) -> None:
    """After a restart the same mounts show the same files."""
    await commit(body.snapshots, "base", "", write(a="1"))
    mounts = await body.snapshots.prepare("one", "base")
    with shown(mounts, tmp_path / "m"):
        (tmp_path / "m" / "b").write_text("2")
    await body.restart()
    assert await body.snapshots.mounts("one") == mounts
    with shown(mounts, tmp_path / "m"):
        assert tree(tmp_path / "m") == {"a": "1", "b": "2"}


async def test_unfinished_layer_is_gone_after_a_restart(body: Body) -> None:
    """A layer that was being applied when the service ended leaves nothing on disk."""
    await commit(body.snapshots, "base", "", write(a="1"))
    unfinished = directory_of((await stage(body.snapshots, write(half="x"))).mounts)
    await body.restart()
    assert not unfinished.exists() and not unfinished.parent.exists()
    fresh = await body.snapshots.stage()
    assert directory_of(fresh.mounts) != unfinished or not any(directory_of(fresh.mounts).iterdir())


async def test_discarded_layer_leaves_nothing(body: Body) -> None:
    """A discarded stage goes with all that was applied to it; a committed one is not touched by a late discard."""
    made = await stage(body.snapshots, write(d__e__f="x"))
    kept = await stage(body.snapshots, write(a="1"))
    await body.snapshots.commit_stage(kept, "base", "")
    for _ in range(2):
        await body.snapshots.discard(made)
        await body.snapshots.discard(kept)
    await body.restart()
    assert not directory_of(made.mounts).exists() and directory_of(kept.mounts).exists()


async def test_cancelled_commit_leaves_a_stage_or_a_snapshot(body: Body) -> None:
    """Whenever a commit is given up, discarding afterwards leaves either the whole snapshot or nothing."""
    for turns in range(12):
        name = f"layer-{turns}"
        made = await stage(body.snapshots, write(a="1"))
        task = asyncio.create_task(body.snapshots.commit_stage(made, name, ""))
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        task.cancel()
        await asyncio.wait([task])
        await body.snapshots.discard(made)
        try:
            await body.snapshots.stat(name)
            recorded = True
        except NotFound:
            recorded = False
        await body.restart()
        assert directory_of(made.mounts).exists() == recorded


async def test_cancelled_prepare_leaves_nothing(body: Body) -> None:
    """A caller that went away has no snapshot that nobody knows of."""
    for turns in range(8):
        task = asyncio.create_task(body.snapshots.prepare(f"c{turns}", ""))
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            with pytest.raises(NotFound):
                await body.snapshots.stat(f"c{turns}")


async def test_files_are_read_from_layers_without_mounting(snapshots: Snapshotter) -> None:
    """The topmost layer that has a file wins, whiteouts hide, links are followed inside the image."""

    def base(directory: Path) -> None:
        write(etc__passwd="old", etc__gone="x", dir__deep__file="low", hidden__file="x")(directory)
        (directory / "link").symlink_to("/etc/../etc/passwd")
        (directory / "up").symlink_to("../../../../../../etc/passwd")
        (directory / "loop").symlink_to("loop")
        (directory / "dangling").symlink_to("/not/here")

    def top(directory: Path) -> None:
        write(etc__passwd="new", dir__other="x")(directory)
        os.mknod(directory / "etc" / "gone", stat.S_IFCHR, 0)
        (directory / "hidden").mkdir()
        os.setxattr(directory / "hidden", "trusted.overlay.opaque", b"y")

    await commit(snapshots, "base", "", base)
    await commit(snapshots, "top", "base", top)
    for path, text in {"/etc/passwd": b"new", "/link": b"new", "/up": b"new", "/dir/deep/file": b"low"}.items():
        assert await snapshots.read_file("top", path, 10) == text
    for path in ("/etc/gone", "/hidden/file", "/dangling", "/etc/passwd/x", "/nothing/at/all"):
        assert await snapshots.read_file("top", path, 10) is None
    with pytest.raises(InvalidArgument, match="links"):
        await snapshots.read_file("top", "/loop", 10)


async def test_what_is_no_small_file_is_refused(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A pipe, a device, a directory or a huge sparse file in place of a small one blocks and fills nothing."""

    def base(directory: Path) -> None:
        os.mkfifo(directory / "pipe")
        os.mknod(directory / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        (directory / "directory").mkdir()
        with (directory / "sparse").open("wb") as file:
            file.truncate(10 << 30)

    await commit(snapshots, "base", "", base)
    for name in ("pipe", "device", "directory", "sparse"):
        with pytest.raises(InvalidArgument):
            await asyncio.wait_for(snapshots.read_file("base", f"/{name}", 1 << 20), 5)
