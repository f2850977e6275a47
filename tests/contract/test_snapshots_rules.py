"""containerd's rules for snapshots, on every body: what may be prepared, committed, removed, and what is said otherwise."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hythe.clock import now_rfc3339
from hythe.errors import AlreadyExists, FailedPrecondition, HytheError, InvalidArgument, NotFound
from hythe.linux import libc
from hythe.ports.snapshots import Snapshotter, Usage
from tests.fixtures.snapshots import Body, commit, commit_active, shown, tree, write


async def base_set(snapshots: Snapshotter) -> dict[str, tuple[str, str]]:
    """Make one of each kind, with a parent and without; return kind and parent by name."""
    await snapshots.prepare("c1-a", "")
    await snapshots.commit("c1", "c1-a")
    await snapshots.prepare("c2-a", "c1")
    await snapshots.commit("c2", "c2-a")
    await snapshots.prepare("a1", "c2")
    await snapshots.prepare("a2", "")
    await snapshots.view("v1", "c2")
    await snapshots.view("v2", "")
    return {
        "c1": ("committed", ""),
        "c2": ("committed", "c1"),
        "a1": ("active", "c2"),
        "a2": ("active", ""),
        "v1": ("view", "c2"),
        "v2": ("view", ""),
    }


async def refused(error: type[HytheError], call: Awaitable[object]) -> HytheError:
    """Await what must fail in this way."""
    with pytest.raises(error) as caught:
        await call
    return caught.value


async def test_every_snapshot_is_found_with_kind_and_parent(body: Body) -> None:
    """Stat and walk tell the same of each, before and after a restart."""
    before = now_rfc3339()
    expected = await base_set(body.snapshots)
    for _ in range(2):
        walked = {found.name: found async for found in body.snapshots.walk()}
        assert {name: (found.kind, found.parent) for name, found in walked.items()} == expected
        for name, found in walked.items():
            assert await body.snapshots.stat(name) == found
            assert before <= found.created_at == found.updated_at <= now_rfc3339()
        await body.restart()


async def test_stat_can_be_asked_during_a_walk(snapshots: Snapshotter) -> None:
    """A walk holds nothing that others need, and what is made or removed meanwhile does not end it."""
    await base_set(snapshots)
    async for found in snapshots.walk():
        if found.name != "a2":
            assert await snapshots.stat(found.name) == found
        if found.name == "c1":
            await snapshots.remove("a2")
            await snapshots.prepare("new", "c1")


async def test_committed_snapshot_takes_the_place_of_its_key(snapshots: Snapshotter, tmp_path: Path) -> None:
    """After a commit the key is free, parent and files are kept, labels are those of the commit alone."""
    await commit_active(snapshots, "base", "", write(a="1"), tmp_path / "m")
    with shown(await snapshots.prepare("key", "base", labels={"old": "x"}), tmp_path / "m") as point:
        (point / "a").write_text("2")
    await snapshots.commit("top", "key", labels={"new": "y"})
    found = await snapshots.stat("top")
    assert (found.kind, found.parent, found.labels) == ("committed", "base", {"new": "y"})
    for call in (snapshots.stat("key"), snapshots.mounts("key"), snapshots.look("key"), snapshots.changes_in("key")):
        await refused(NotFound, call)
    with shown(await snapshots.prepare("key", "top"), tmp_path / "m") as point:
        assert tree(point) == {"a": "2"}
    assert await snapshots.read_file("top", "/a", 1) == b"2"


async def test_commit_follows_containerd_s_rules(snapshots: Snapshotter) -> None:
    """A name that is taken, a key that isn't there, a key that isn't active: each has its error, and nothing changes."""
    await base_set(snapshots)
    before = [found async for found in snapshots.walk()]
    await refused(AlreadyExists, snapshots.commit("c1", "a1"))
    await refused(AlreadyExists, snapshots.commit("a1", "a1"))
    await refused(AlreadyExists, snapshots.commit("c1", "none"))
    await refused(NotFound, snapshots.commit("new", "none"))
    for key in ("c1", "v1", "v2"):
        await refused(FailedPrecondition, snapshots.commit("new", key))
    assert [found async for found in snapshots.walk()] == before
    await snapshots.commit("new", "a1")


async def test_key_is_unique_among_all_kinds(snapshots: Snapshotter) -> None:
    """Prepare and view refuse a key that stands for anything already; a key that is free again can be anything."""
    await base_set(snapshots)
    for name in ("c1", "a1", "a2", "v1", "v2"):
        await refused(AlreadyExists, snapshots.prepare(name, "c1"))
        await refused(AlreadyExists, snapshots.view(name, "none"))
    await snapshots.remove("a1")
    await snapshots.view("a1", "c1")
    await snapshots.remove("a1")
    await snapshots.prepare("a1", "")
    await snapshots.commit("again", "a1")
    assert (await snapshots.stat("again")).kind == "committed"


async def test_parent_must_be_committed(snapshots: Snapshotter) -> None:
    """What may still change carries nothing; what isn't there neither."""
    await base_set(snapshots)
    for make in (snapshots.prepare, snapshots.view):
        for parent in ("a1", "v1", "v2"):
            await refused(InvalidArgument, make("new", parent))
        await refused(NotFound, make("new", "none"))
    staged = await snapshots.stage()
    await refused(InvalidArgument, snapshots.commit_stage(staged, "new", "a1"))
    await snapshots.discard(staged)
    await refused(NotFound, snapshots.stat("new"))


async def test_snapshots_go_from_the_top_down(snapshots: Snapshotter) -> None:
    """What others lie on stays, and the error names one of them; then each goes."""
    await base_set(snapshots)
    assert "c2 lies on top" in (await refused(FailedPrecondition, snapshots.remove("c1"))).message
    await refused(FailedPrecondition, snapshots.remove("c2"))
    for name in ("a1", "v1", "c2", "c1", "a2", "v2"):
        await snapshots.remove(name)
        await refused(NotFound, snapshots.remove(name))
    assert [found async for found in snapshots.walk()] == []


async def test_committed_snapshot_has_no_mounts_of_its_own(snapshots: Snapshotter) -> None:
    """Only what lies on a layer is mounted; the layer can be looked at."""
    await base_set(snapshots)
    await refused(FailedPrecondition, snapshots.mounts("c1"))
    for name in ("a1", "a2", "v1", "v2"):
        assert await snapshots.mounts(name) == await snapshots.mounts(name) != ()
    assert await snapshots.look("c1") != ()


async def test_views_take_no_write_whatever_they_show(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A view of nothing is empty; it, and views of one layer or several, are read-only, as is any look."""
    await base_set(snapshots)
    looks = [await snapshots.look(name) for name in ("c1", "c2", "a1", "a2", "v1", "v2")]
    for mounts in [await snapshots.view("v", "c1"), await snapshots.mounts("v1"), await snapshots.mounts("v2"), *looks]:
        with shown(mounts, tmp_path / "m") as point:
            assert list(point.iterdir()) == []
            with pytest.raises(OSError, match="Read-only"):
                (point / "f").write_text("x")


async def test_look_shows_what_is_written_at_present(snapshots: Snapshotter, tmp_path: Path) -> None:
    """An active snapshot can be looked at, its own changes included, while it is mounted."""
    await commit(snapshots, "base", "", write(a="1", b="1"))
    with shown(await snapshots.prepare("one", "base"), tmp_path / "m") as point:
        (point / "a").write_text("2")
        (point / "b").unlink()
        with shown(await snapshots.look("one"), tmp_path / "look") as look:
            assert tree(look) == {"a": "2"}


async def test_changes_are_alone_in_their_directory_or_nowhere(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A body that stacks has a directory with a snapshot's changes alone; another says that it has none."""
    await commit(snapshots, "base", "", write(a="1", b="1"))
    with shown(await snapshots.prepare("one", "base"), tmp_path / "m") as point:
        (point / "c").write_text("2")
        (point / "b").unlink()
    await snapshots.view("seen", "base")
    changes = await snapshots.changes_in("one")
    assert changes is None or sorted(path.name for path in changes.iterdir()) == ["b", "c"]
    assert await snapshots.changes_in("seen") is None
    await refused(NotFound, snapshots.changes_in("none"))


async def test_labels_are_replaced_or_changed_by_key(body: Body) -> None:
    """Without keys all labels are replaced; with keys only those, and one without a value goes. All else stays."""
    for name in await base_set(body.snapshots):
        before = await body.snapshots.stat(name)
        found = await body.snapshots.update(name, {"l1": "v1", "l2": "v2", "l3": "v3"})
        assert found.labels == {"l1": "v1", "l2": "v2", "l3": "v3"}
        assert (found.kind, found.parent, found.created_at) == (before.kind, before.parent, before.created_at)
        assert before.updated_at < found.updated_at <= now_rfc3339()
        found = await body.snapshots.update(name, {"l1": "updated", "l4": "v4"}, only=["l1", "l2"])
        assert found.labels == {"l1": "updated", "l3": "v3"}
        assert (await body.snapshots.update(name, {"l4": "v4"})).labels == {"l4": "v4"}
        assert (await body.snapshots.update(name, {"l4": ""}, only=["l4"])).labels == {}
        await body.snapshots.update(name, {"kept": name})
    await body.restart()
    assert {found.name: found.labels async for found in body.snapshots.walk()} == {
        name: {"kept": name} for name in ("c1", "c2", "a1", "a2", "v1", "v2")
    }
    await refused(NotFound, body.snapshots.update("none", {}))
    assert datetime.fromisoformat((await body.snapshots.stat("c1")).updated_at).tzinfo == UTC


async def test_usage_is_what_a_snapshot_takes_by_itself(body: Body, tmp_path: Path) -> None:
    """Blocks count, not lengths; a file with two names counts once; what lies below belongs to a copy alone."""
    snapshots, size = body.snapshots, 1 << 20

    def fill(directory: Path) -> None:
        (directory / "a").write_bytes(os.urandom(size))
        os.link(directory / "a", directory / "b")
        with (directory / "hole").open("wb") as file:
            file.truncate(1 << 30)

    await commit(snapshots, "base", "", fill)
    base = await snapshots.usage("base")
    assert base.inodes == 3 and size <= base.size_bytes < size + 65536
    with shown(await snapshots.prepare("one", "base"), tmp_path / "m") as point:
        empty = await snapshots.usage("one")
        assert empty.inodes == (3 if body.name == "native" else 1)
        (point / "new").write_bytes(os.urandom(size))
        grown = await snapshots.usage("one")
        assert grown.inodes == empty.inodes + 1 and grown.size_bytes >= empty.size_bytes + size
    await snapshots.commit("top", "one")
    assert await snapshots.usage("top") == await snapshots.usage("top") == grown
    await snapshots.view("seen", "top")
    assert await snapshots.usage("seen") == Usage(0, 0)
    await refused(NotFound, snapshots.usage("none"))
    await body.restart()
    assert await body.snapshots.usage("base") == base


@pytest.mark.parametrize("parent", ["base", ""])
async def test_mounted_snapshot_is_neither_removed_nor_committed(
    snapshots: Snapshotter, tmp_path: Path, parent: str
) -> None:
    """Where it is mounted, also by a bind mount of a directory in it, is said; afterwards both work."""
    await commit(snapshots, "base", "", write(d__a="1"))
    mounts = await snapshots.prepare("one", parent)
    for point in (tmp_path / "with space", tmp_path / "n"):
        with shown(mounts, point):
            for call in (snapshots.remove("one"), snapshots.commit("new", "one")):
                error = await refused(FailedPrecondition, call)
                assert f"mounted at {point}" in error.message and str(point) in error.next_step
    with shown(mounts, tmp_path / "m") as point:
        (point / "inner").mkdir()
        libc.mount(str(point / "inner"), str(tmp_path / "n"), "", libc.MS_BIND, "")
    try:
        await refused(FailedPrecondition, snapshots.remove("one"))
    finally:
        libc.umount(str(tmp_path / "n"), 0)
    await snapshots.commit("new", "one")
    await snapshots.remove("new")


@pytest.mark.parametrize("way", ["link", "bind"])
async def test_mount_is_seen_whatever_way_leads_to_the_root(body: Body, tmp_path: Path, way: str) -> None:
    """A root that is reached by a symbolic link, or is bound to another place, hides no mount."""
    await commit(body.snapshots, "base", "", write(a="1"))
    await body.close()
    other, real = tmp_path / "other", body.directory
    if way == "link":
        other.symlink_to(real)
    else:
        other.mkdir()
        libc.mount(str(real), str(other), "", libc.MS_BIND, "")
    try:
        body.directory = other
        body.reopen()
        with shown(await body.snapshots.prepare("one", "base"), tmp_path / "m") as point:
            error = await refused(FailedPrecondition, body.snapshots.remove("one"))
            assert f"mounted at {point}" in error.message
        await body.snapshots.remove("one")
        await body.close()
    finally:
        if way == "bind":
            libc.umount(str(other), 0)
        body.directory = real
        body.reopen()


async def test_layer_below_a_mount_is_not_removed(snapshots: Snapshotter, tmp_path: Path) -> None:
    """A layer that something shows stays, even if no record says so any more."""
    await commit(snapshots, "base", "", write(a="1"))
    await commit(snapshots, "top", "base", write(b="1"))
    for name in ("top", "base"):
        mounts = await snapshots.view("seen", name)
        await snapshots.remove("seen")
        with shown(mounts, tmp_path / "m") as point:
            error = await refused(FailedPrecondition, snapshots.remove(name))
            assert f"mounted at {point}" in error.message
        await snapshots.remove(name)


async def test_many_are_prepared_at_once(body: Body, tmp_path: Path) -> None:
    """Prepares at the same time don't disturb each other; of one key exactly one wins."""
    await commit(body.snapshots, "base", "", write(a="1", d__b="2"))
    keys = [f"k{number % 20}" for number in range(40)]
    done = await asyncio.gather(*(body.snapshots.prepare(key, "base") for key in keys), return_exceptions=True)
    assert [type(found) for found in done].count(AlreadyExists) == 20 and len(
        {d for d in done if type(d) is tuple}
    ) == 20
    assert len(body.places()) == 21
    for key in set(keys):
        with shown(await body.snapshots.mounts(key), tmp_path / "m") as point:
            assert tree(point) == {"a": "1", "d/b": "2"}


async def test_two_commits_of_one_key_are_one(snapshots: Snapshotter) -> None:
    """Of two commits at the same time one wins and the other is told."""
    await snapshots.prepare("key", "")
    done = await asyncio.gather(*(snapshots.commit(name, "key") for name in "xy"), return_exceptions=True)
    assert sorted(type(found).__name__ for found in done) == ["FailedPrecondition", "NoneType"]
    assert [found.name async for found in snapshots.walk()] == ["xy"[done.index(None)]]


async def test_parent_is_not_removed_under_what_is_being_made(body: Body) -> None:
    """A removal while a child is prepared either comes first, or is refused; never is there a child without its parent."""
    for turn in range(8):
        await commit(body.snapshots, "base", "", write(a="1"))
        task = asyncio.create_task(body.snapshots.prepare("child", "base"))
        for _ in range(turn):
            await asyncio.sleep(0)
        removal = await asyncio.gather(body.snapshots.remove("base"), return_exceptions=True)
        made = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(removal[0], FailedPrecondition) != isinstance(made[0], HytheError)
        for name in [found.name async for found in body.snapshots.walk()][::-1]:
            await body.snapshots.remove(name)


async def test_closing_twice_is_as_closing_once(body: Body) -> None:
    """Whoever stops need not know whether somebody did before."""
    await body.snapshots.prepare("one", "")
    for _ in range(2):
        await body.snapshots.close()
