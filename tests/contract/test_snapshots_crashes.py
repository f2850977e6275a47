"""Crashes, full disks and strangers: what is recorded is on the disk, and what is on the disk is recorded."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition, NotFound, ResourceExhausted
from hythe.linux import libc
from hythe.ports.snapshots import Stage
from tests.fixtures.snapshots import BODIES, Body, commit, described, run_process, shown, stage, tree, write

KILLED = -signal.SIGKILL


async def recorded(body: Body) -> dict[str, str]:
    """Return the kinds of all snapshots by name."""
    return {found.name: found.kind async for found in body.snapshots.walk()}


async def start(body: Body) -> None:
    """Make a layer, an active snapshot with a change and one that can be removed."""
    await commit(body.snapshots, "base", "", write(base__a="1", b="1"))
    with shown(await body.snapshots.prepare("key", "base"), body.directory.parent / "m") as point:
        (point / "b").write_text("2")
    await body.snapshots.prepare("gone", "base")
    await commit(body.snapshots, "unused", "base", write(c="3"))


STEPS = {
    "stage": ("new", "base", "committed", {"base/a": "1", "base/more": "2", "b": "1", "new": "1"}),
    "prepare": ("new", "base", "active", {"base/a": "1", "b": "1"}),
    "commit": ("new", "key", "committed", {"base/a": "1", "b": "2"}),
}
DEATHS = [
    ("stage", "finished", False),
    ("stage", "synced", False),
    ("stage", "committed", True),
    ("prepare", "made", False),
    ("prepare", "recorded", True),
    ("commit", "finished", False),
    ("commit", "synced", False),
    ("commit", "committed", True),
]


@pytest.mark.parametrize(("verb", "point", "done"), DEATHS)
async def test_killed_step_was_done_or_never_begun(
    body: Body, tmp_path: Path, verb: str, point: str, done: bool
) -> None:
    """SIGKILL at any point leaves the whole snapshot or nothing; what was there before is as it was; a repeat works."""
    await start(body)
    await body.close()
    name, other, kind, content = STEPS[verb]
    code = run_process(body.name, body.directory, verb, name, other, failpoints=f"bundle.snapshot.{point}=kill")
    assert code == KILLED
    await body.restart()
    expected = {"base": "committed", "key": "active", "gone": "active", "unused": "committed"}
    if done:
        expected[name] = kind
        expected.pop(other if verb == "commit" else "", "")
    assert await recorded(body) == expected
    assert len(body.places()) == len(expected)
    if not done:
        if verb == "commit":
            with shown(await body.snapshots.mounts("key"), tmp_path / "m") as shows:
                assert tree(shows) == content
        await body.close()
        assert run_process(body.name, body.directory, verb, name, other) == 0
        await body.restart()
    with shown(await body.snapshots.look(name), tmp_path / "m") as shows:
        assert tree(shows) == content


@pytest.mark.parametrize("name", ["gone", "unused"])
async def test_killed_removal_is_finished_by_the_next_start(body: Body, name: str) -> None:
    """A snapshot whose record is gone leaves no files, whenever its remover was killed."""
    await start(body)
    await body.close()
    code = run_process(body.name, body.directory, "remove", name, "", failpoints="bundle.snapshot.removed=kill")
    assert code == KILLED
    assert len(body.places()) == 4
    await body.restart()
    assert name not in await recorded(body) and len(body.places()) == 3


async def test_clean_up_removes_what_no_record_speaks_of(body: Body, tmp_path: Path) -> None:
    """Leftovers go, with what is mounted in them; stages, snapshots and what is mounted elsewhere stay."""
    await start(body)
    unfinished = await stage(body.snapshots, write(x="1"))
    assert await body.snapshots.cleanup() == 0
    left, used, covered = (body.directory / "snapshots" / number for number in ("900", "901", "902"))
    for place in (left, used, covered):
        write(fs__deep__file="x")(place)
    before = body.places()
    libc.mount(str(left / "fs"), str(covered / "fs"), "", libc.MS_BIND, "")
    (tmp_path / "m").mkdir(exist_ok=True)
    libc.mount(str(used / "fs"), str(tmp_path / "m"), "", libc.MS_BIND, "")
    try:
        assert await body.snapshots.cleanup() == 2
        assert body.places() == before - {"900", "902"}
        assert tree(tmp_path / "m") == {"deep/file": "x"}
    finally:
        libc.umount(str(tmp_path / "m"), 0)
    assert await body.snapshots.cleanup() == 1
    await body.snapshots.commit_stage(unfinished, "kept", "")
    assert await body.snapshots.read_file("kept", "/x", 1) == b"1"


async def test_clean_up_leaves_alone_what_is_being_made(body: Body) -> None:
    """Whenever clean-up comes, what is prepared at the same time is whole."""
    await commit(body.snapshots, "base", "", write(**{f"d{number}__f": "x" for number in range(30)}))
    for turn in range(6):
        task = asyncio.create_task(body.snapshots.prepare(f"k{turn}", "base"))
        for _ in range(turn):
            await asyncio.sleep(0)
        assert await body.snapshots.cleanup() == 0
        await task
    assert len(body.places()) == 7


async def test_lost_records_delete_nothing_at_any_later_start(body: Body, tmp_path: Path) -> None:
    """When the database is gone, what lies there belongs to nobody who can be asked: it stays, and is never written to."""
    await start(body)
    await body.close()
    for path in body.directory.glob("snapshots.db*"):
        path.unlink()
    before = {name: described(body.directory / "snapshots" / name) for name in body.places()}
    await body.restart()
    await commit(body.snapshots, "base", "", write(other="1"))
    for _ in range(2):
        assert await body.snapshots.cleanup() == 0
        await body.restart()
        assert {name: described(body.directory / "snapshots" / name) for name in before} == before
    await body.snapshots.remove("base")
    await body.restart()
    assert body.places() == set(before)


async def test_places_that_a_crash_of_the_machine_undid_are_made_again(body: Body, tmp_path: Path) -> None:
    """A recorded active snapshot can be mounted after any restart, even where its directory never reached the disk."""
    await start(body)
    await body.snapshots.view("empty", "")
    await body.close()
    database = sqlite3.connect(body.directory / "snapshots.db")
    for name in ("gone", "empty"):
        number = database.execute("SELECT id FROM snapshots WHERE name = ?", (name,)).fetchone()[0]
        shutil.rmtree(body.directory / "snapshots" / str(number))
    database.close()
    await body.restart()
    with shown(await body.snapshots.mounts("gone"), tmp_path / "m") as point:
        assert tree(point) == {"base/a": "1", "b": "1"}
    with shown(await body.snapshots.mounts("empty"), tmp_path / "m") as point:
        assert tree(point) == {}


async def test_root_belongs_to_the_snapshotter_that_filled_it(body: Body) -> None:
    """Another one is refused while there are snapshots, with what to do; it may have the root when there are none."""
    await start(body)
    other = next(name for name in BODIES if name != body.name)
    own, body.name = body.name, other
    try:
        with pytest.raises(FailedPrecondition, match="were made by the snapshotter") as caught:
            await body.restart()
    finally:
        body.name = own
        body.reopen()
    assert "HYTHE_SNAPSHOTTER=" in caught.value.next_step
    for name in ("gone", "key", "unused", "base"):
        await body.snapshots.remove(name)
    body.name = other
    await body.restart()
    await commit(body.snapshots, "base", "", write(a="1"))
    assert len(body.places()) == 1


@pytest.fixture
async def small(request: pytest.FixtureRequest, small_disk: Callable[[int], Path]) -> Body:
    """A snapshotter on a file system of 16 MiB."""
    return Body(request.param, small_disk(16) / "body")


@pytest.mark.parametrize("small", BODIES, indirect=True)
async def test_full_disk_leaves_nothing_and_loses_nothing(small: Body) -> None:
    """Where there is no room every step says so, nothing of it stays, and with room again it works."""
    try:
        await start(small)
        unfinished = await stage(small.snapshots, write(new="1"))
        before, places = await recorded(small), small.places()
        filler = small.directory / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        for verb in (small.snapshots.prepare, small.snapshots.view):
            with pytest.raises(ResourceExhausted):
                for number in range(1000):
                    await verb(f"{verb.__name__}-{number}", "base" if verb == small.snapshots.prepare else "")
        stages: list[Stage] = []
        with pytest.raises(ResourceExhausted):
            while len(stages) < 1000:
                stages.append(await small.snapshots.stage())
        after = await recorded(small)
        assert before.items() <= after.items()
        assert len(small.places()) == len(places) + len(after) - len(before) + len(stages)
        filler.unlink()
        await small.snapshots.prepare("new", "base")
        await small.snapshots.commit_stage(unfinished, "top", "base")
    finally:
        await small.close()


async def test_stage_of_a_failed_commit_can_be_discarded(body: Body) -> None:
    """A layer that can't be committed, because its parent is gone meanwhile, leaves nothing once it is discarded."""
    await start(body)
    before = body.places()
    made = await stage(body.snapshots, write(new="1"))
    task = asyncio.create_task(body.snapshots.commit_stage(made, "new", "later"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await body.snapshots.discard(made)
    assert body.places() == before
    with pytest.raises(NotFound):
        await body.snapshots.stat("new")
