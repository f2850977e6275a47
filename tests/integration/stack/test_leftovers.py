"""Clearing away after a crash: only what belongs to the stack, all of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe import settings
from hythe.errors import FailedPrecondition
from hythe.settings import Settings
from hythe.stack import leftovers
from hythe.stack.ownership import Ownership


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a stack with a root, a state and a cgroup of its own; all are cleared at the end."""
    (tmp_path / "hythe.toml").touch()
    flags = {"root": str(tmp_path / "root"), "state": str(tmp_path / "state"), "host": "h1"}
    loaded = settings.load(flags, {"HYTHE_CONFIG": str(tmp_path / "hythe.toml")})
    loaded.root.mkdir()
    loaded.state.mkdir()
    yield loaded
    leftovers.kill_all(leftovers.cgroup_directories(loaded))
    leftovers.remove_cgroups(loaded)
    for point in leftovers.mounts_below([tmp_path]):
        subprocess.run(["umount", "-l", point], check=False)


def _in_every_hierarchy(loaded: Settings, name: str) -> list[Path]:
    made = [top / loaded.cgroup_parent / loaded.host / name for top in leftovers.cgroup_hierarchies()]
    for path in made:
        path.mkdir(parents=True)
    return made


def test_processes_in_the_stacks_cgroups_are_killed_and_the_cgroups_removed(places: Settings) -> None:
    """A container that nobody knows of goes with its cgroup, in every hierarchy; its neighbours stay."""
    made = [path for path in _in_every_hierarchy(places, "ctr/a/b") if "cpuset" not in path.parts]
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    for path in made:
        try:
            (path / "cgroup.procs").write_text(str(child.pid))
        except OSError:
            continue  # a hierarchy that takes no processes here
    assert child.pid in leftovers.processes_in(leftovers.cgroup_directories(places))
    assert os.getpid() not in leftovers.processes_in(leftovers.cgroup_directories(places))
    assert leftovers.kill_all(leftovers.cgroup_directories(places)) == 1
    assert child.wait(5) == -signal.SIGKILL
    assert leftovers.remove_cgroups(places) == len(leftovers.cgroup_hierarchies())
    assert not any((top / places.cgroup_parent).exists() for top in leftovers.cgroup_hierarchies())


def test_cgroup_in_which_something_lives_stays(places: Settings) -> None:
    """Removing cgroups kills nothing."""
    made = [path for path in _in_every_hierarchy(places, "ctr/a") if "cpuset" not in path.parts]
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (made[0] / "cgroup.procs").write_text(str(child.pid))
    leftovers.remove_cgroups(places)
    assert made[0].is_dir()
    assert child.poll() is None
    child.kill()
    child.wait()


def test_mounts_of_containers_go_and_those_of_the_user_stay(places: Settings) -> None:
    """What lies below state and bundles is detached, innermost first; a disk mounted for the content stays."""
    own = [places.state / "run" / "x y", places.root / "bundle" / "bundles" / "default" / "ü" / "rootfs"]
    users = places.root / "content"
    for point in (*own, users):
        point.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    inner = own[1] / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    assert leftovers.mounts_below([places.root / "bundle"]) == [inner, own[1]]
    assert leftovers.unmount_all(places) == 3
    assert leftovers.mounts_below([places.root, places.state]) == [users]


def test_state_is_removed_but_never_through_a_mount(places: Settings) -> None:
    """As long as something is mounted below it, nothing in the state directory is deleted."""
    point = places.state / "run" / "c"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    (point / "data").write_text("kept")
    leftovers.clear_state(places.state, keep_containers=False)
    assert (point / "data").read_text() == "kept"
    leftovers.unmount_all(places)
    (places.state / "services").symlink_to(places.root)
    leftovers.clear_state(places.state, keep_containers=False)
    assert not places.state.exists()
    assert places.root.is_dir()


def test_state_keeps_what_somebody_else_put_there(places: Settings) -> None:
    """A HYTHE_STATE that names the wrong directory costs nobody their files."""
    (places.state / "theirs").mkdir()
    (places.state / "theirs" / "file").touch()
    (places.state / "run" / "default").mkdir(parents=True)
    leftovers.clear_state(places.state, keep_containers=False)
    assert [path.name for path in places.state.iterdir()] == ["theirs"] and (places.state / "theirs" / "file").exists()


def test_mounts_are_found_where_a_link_leads_to(places: Settings, tmp_path: Path) -> None:
    """The kernel names mounts without links: a root that is reached by one hides none of them."""
    point = places.root / "bundle" / "bundles" / "c"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    (tmp_path / "link").symlink_to(places.root)
    assert leftovers.mounts_below([tmp_path / "link" / "bundle"]) == [point]


def test_state_of_running_containers_is_kept_when_asked(places: Settings) -> None:
    """Only what the processes of the stack wrote goes; run directories stay for the next start."""
    (places.state / "run").mkdir()
    (places.state / "services").mkdir()
    (places.state / "bus.json").touch()
    leftovers.clear_state(places.state, keep_containers=True)
    assert [path.name for path in places.state.iterdir()] == ["run"]


def test_root_is_owned_by_one_at_a_time(places: Settings) -> None:
    """Two at once on one root are impossible, one after the other is not."""
    first = Ownership(places, make_cgroup=True)
    with pytest.raises(FailedPrecondition, match="already at work"):
        Ownership(places, make_cgroup=True)
    first.release()
    Ownership(places, make_cgroup=True).release()


@pytest.mark.parametrize(("shared", "setting"), [("state", "HYTHE_STATE"), ("cgroup_parent", "HYTHE_CGROUP_PARENT")])
def test_stack_with_another_root_cannot_share_state_or_cgroup(
    places: Settings, tmp_path: Path, shared: str, setting: str
) -> None:
    """Another stack's containers could be taken for one's own: refused, with the setting to change."""
    flags = {"root": str(tmp_path / "other"), "state": str(tmp_path / "other-state"), "host": "h1"}
    other = settings.load({**flags, shared: places.as_text()[shared]}, {"HYTHE_CONFIG": str(tmp_path / "hythe.toml")})
    first = Ownership(places, make_cgroup=True)
    try:
        with pytest.raises(FailedPrecondition, match="another root uses it") as caught:
            Ownership(other, make_cgroup=True)
        assert setting in caught.value.next_step
    finally:
        first.release()


def test_directories_are_closed_to_others(places: Settings) -> None:
    """The root is 0700 and the state 0711, also when they were open before."""
    places.root.chmod(0o755)
    places.state.chmod(0o777)
    Ownership(places, make_cgroup=False).release()
    assert places.root.stat().st_mode & 0o777 == 0o700
    assert places.state.stat().st_mode & 0o777 == 0o711
