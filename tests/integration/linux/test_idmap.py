"""Layers and directories shown with the ids of a container's users."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hythe.linux import idmap, libc, mountinfo, mounting
from hythe.linux.idmap import IdMaps, IdRange
from hythe.linux.overlay import Form
from hythe.ports.snapshots import Mount
from tests.integration.linux.layers import lines_about, make

MAPPED = ("uidmap=0:100000:65536", "gidmap=0:200000:65536")
KILLED = """
import os, signal, sys
from hythe.linux import idmap, mount_calls
maps, _ = idmap.take_maps(["uidmap=0:100000:10", "gidmap=0:100000:10"])
idmap.copy_with(sys.argv[1], mount_calls.MOUNT_ATTR_RDONLY, idmap.user_namespace(maps))
print("mapped", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def owner(path: Path) -> tuple[int, int]:
    """Return user and group of a file."""
    found = path.lstat()
    return found.st_uid, found.st_gid


@pytest.mark.parametrize("count", [1, 3, 128])
@pytest.mark.parametrize("form", ["auto", "parameters", "relative"])
def test_layers_show_the_ids_of_the_containers_users(place: Path, form: Form, count: int) -> None:
    """Root's files are the mapped root's, others follow, ids beyond the map are nobody's; the layers stay as they are."""
    layers = make(place, count)
    for name, user in (("app", 1000), ("beyond", 70000)):
        (layers.lower[-1] / name).touch()
        os.chown(layers.lower[-1] / name, user, user)
    mounting.mount(layers.overlay(*MAPPED), str(layers.point), form=form)
    assert lines_about(place) == [str(layers.point)]
    assert mountinfo.overlay_on(layers.upper) == str(layers.point)
    assert owner(layers.point / "top") == (100000, 200000)
    assert owner(layers.point / "app") == (101000, 201000)
    assert owner(layers.point / "beyond") == (65534, 65534)
    (layers.point / "app").chmod(0o600)
    assert owner(layers.upper / "app") == (101000, 201000)
    assert owner(layers.lower[-1] / "app") == (1000, 1000)
    assert (layers.point / "top").read_text() == "0"
    libc.umount(str(layers.point), libc.UMOUNT_NOFOLLOW)
    assert lines_about(place) == []


def test_layers_on_two_file_systems_are_both_mapped(place: Path) -> None:
    """A layer on a disk of its own is shown, not what lies under that disk; where the kernel can't, it is named."""
    layers = make(place, 3)
    libc.mount("tmpfs", str(layers.lower[1].parent), "tmpfs", 0, "")
    layers.lower[1].mkdir()
    (layers.lower[1] / "on tmpfs").touch()
    mounting.mount(layers.overlay(*MAPPED), str(layers.point), form="parameters")
    assert owner(layers.point / "on tmpfs") == (100000, 200000)
    libc.umount(str(layers.point), libc.UMOUNT_NOFOLLOW)
    with pytest.raises(OSError, match=rf"{layers.lower[1]} lies on another file system") as raised:
        mounting.mount(layers.overlay(*MAPPED), str(layers.point), form="relative")
    assert raised.value.errno == errno.EXDEV
    assert layers.mounted() == [str(layers.lower[1].parent)]


def test_whole_copy_is_bound_with_its_ids_mapped_both_ways(place: Path) -> None:
    """A snapshotter that copies binds its directory: what the container's root writes lies on the disk as root's."""
    layers = make(place, 1)
    place.chmod(0o711)
    wanted = Mount("bind", str(layers.lower[0]), "", (*MAPPED, "rbind", "rw"))
    mounting.mount(wanted, str(layers.point))
    assert owner(layers.point / "top") == (100000, 200000)
    subprocess.run(["touch", str(layers.point / "new")], user=100000, group=200000, extra_groups=[], check=True)
    assert owner(layers.lower[0] / "new") == (0, 0)


def test_several_ranges_map_each_their_part(place: Path) -> None:
    """One user of the container may be a certain one of the host, the others come from elsewhere."""
    layers = make(place, 2)
    os.chown(layers.lower[0] / "f0", 33, 33)
    ranges = "0:100000:33,33:33:1,34:100034:1000"
    mounting.mount(layers.overlay(f"uidmap={ranges}", f"gidmap={ranges}"), str(layers.point))
    assert (owner(layers.point / "f0"), owner(layers.point / "f1")) == ((33, 33), (100000, 100000))


@pytest.mark.parametrize(
    ("users", "groups", "said"),
    [
        ("0:1", "0:1:1", "'0:1' is not CONTAINER:HOST:SIZE"),
        ("0:-1:5", "0:1:1", "'0:-1:5' is not CONTAINER:HOST:SIZE"),
        ("0:0:0", "0:1:1", "'0:0:0' is no range of ids"),
        ("0:4294967295:2", "0:1:1", "is no range of ids"),
        ("0:100000:10", "", "gidmap=: '' is not"),
        ("0:100000:10,5:200000:10", "0:1:1", "uid_map .*ranges may overlap"),
    ],
)
def test_what_is_no_map_is_refused_with_its_text(place: Path, users: str, groups: str, said: str) -> None:
    """A wrong map is shown as it came, and nothing is mounted."""
    layers = make(place, 2)
    with pytest.raises(OSError, match=said):
        mounting.mount(layers.overlay(f"uidmap={users}", f"gidmap={groups}"), str(layers.point))
    assert layers.mounted() == []


def test_file_system_without_id_maps_is_named(place: Path) -> None:
    """Where ids can't be mapped, the error says of which file system."""
    layers = make(place, 2)
    mounting.mount(layers.overlay(), str(layers.point))
    (place / "above").mkdir()
    with pytest.raises(OSError, match=r"map the ids of .* \(file system overlay, which may have no id maps\)"):
        mounting.mount(Mount("bind", str(layers.point), "", (*MAPPED, "bind")), str(place / "above"))
    with pytest.raises(OSError, match="only overlays and bind mounts can have id maps, not tmpfs"):
        mounting.mount(Mount("tmpfs", "tmpfs", "", MAPPED), str(place / "above"))
    assert layers.mounted() == [str(layers.point)]


def test_overlay_is_not_mapped_by_a_form_that_cannot(place: Path) -> None:
    """Mounting without the map would give the container files that it can't use."""
    layers = make(place, 2)
    with pytest.raises(OSError, match="layers with an id map are mounted by parameters or relative names"):
        mounting.mount(layers.overlay(*MAPPED), str(layers.point), form="plain")
    assert layers.mounted() == []


def test_killed_in_the_middle_nothing_stays_mounted(place: Path) -> None:
    """Layers with an id map are mounted nowhere: they are gone with the process that made them."""
    make(place, 2)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place)], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "mapped\n"), killed.stderr
    assert lines_about(place) == []


def test_root_of_the_container_is_found_in_the_maps() -> None:
    """The owner of what is written to is whoever the container calls root; without one it can't be mounted."""
    maps = IdMaps((IdRange(1, 5, 1), IdRange(0, 100000, 10)), (IdRange(0, 7, 1),))
    assert maps.root == (100000, 7)
    assert maps.has_user(5) and maps.has_user(100009) and not maps.has_user(0)
    with pytest.raises(OSError, match="root is no group of the host"):
        _ = IdMaps(maps.users, (IdRange(1, 7, 1),)).root


def test_user_namespaces_are_kept_but_not_for_ever() -> None:
    """The second container with the same map starts no process; after many maps only a few are open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (only counted)
    assert user_namespace(100000) == user_namespace(100000)
    assert len({user_namespace(root) for root in range(100001, 100021)}) > 1
    assert len(os.listdir("/proc/self/fd")) <= before + 8  # noqa: PTH208


def user_namespace(root: int) -> int:
    """Return the inode of a user namespace whose root is that user of the host."""
    ranges = (IdRange(0, root, 10),)
    fd = idmap.user_namespace(IdMaps(ranges, ranges))
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)
