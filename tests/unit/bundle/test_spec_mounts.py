"""What is mounted in a container: the usual, what was asked for over it, in an order in which nothing hides anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe_bundle import mounts
from hythe_bundle.users import User
from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import IdRange, MountWish, NamespaceWishes, SecurityWishes, Wishes
from tests.fixtures.specs import HOST, image, make

OWN_IDS = NamespaceWishes(user_ids=(IdRange(0, 100_000, 65_536),))


def mounted(**each: Any) -> dict[str, dict[str, Any]]:
    """Return the mounts of a container with these wishes by their place."""
    return {mount["destination"]: mount for mount in make(**each)["mounts"]}


def test_usual_file_systems_are_there_without_a_wish() -> None:
    """Each container has its own processes, devices, terminals, shared memory and queues, and may only read /sys."""
    found = mounted()
    assert [(place, mount["type"]) for place, mount in found.items()] == [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/sys", "sysfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/etc/hosts", "bind"),
        ("/sys/fs/cgroup", "cgroup"),
    ]
    assert "size=67108864" in found["/dev/shm"]["options"] and "gid=5" in found["/dev/pts"]["options"]
    assert "size=1048576" in mounted(shm_bytes=1 << 20)["/dev/shm"]["options"]


def test_mounts_nearer_the_root_come_first() -> None:
    """A mount is never hidden by another that was asked for after it."""
    wishes = (MountWish("tmpfs", "/a/b/c"), MountWish("bind", "/etc", "/srv"), MountWish("tmpfs", "/a"))
    places = list(mounted(mounts=wishes))
    assert places.index("/a") < places.index("/a/b/c") and places.index("/etc") < places.index("/etc/hosts")


def test_what_is_asked_for_takes_the_usual_place() -> None:
    """A bind at /dev/shm or /etc/hosts replaces what would be there; one at /dev replaces all below it, too."""
    found = mounted(mounts=(MountWish("bind", "/dev/shm", "/srv"), MountWish("bind", "/etc//hosts/", "/srv")))
    assert found["/dev/shm"]["source"] == found["/etc/hosts"]["source"] == "/srv"
    found = mounted(mounts=(MountWish("bind", "/dev", "/srv"), MountWish("tmpfs", "/dev/shm")))
    assert [place for place in found if place.startswith("/dev")] == ["/dev", "/dev/shm"]


@pytest.mark.parametrize(
    "target",
    [
        *("", "relative", "/", "//", "/.", "/a/../b", "/..", "/proc", "/proc/sys", "//proc//1", "/sys/firmware/x"),
        *("/sys/devices/virtual/powercap", "/" + "x" * 4095),
    ],
)
def test_target_that_is_none_is_refused(target: str) -> None:
    """Nothing is mounted at the root, outside it, over /proc, or over what is masked of /sys."""
    for wish in (MountWish("bind", target, "/srv"), MountWish("tmpfs", target)):
        with pytest.raises(InvalidArgument, match="mount at"):
            make(mounts=(wish,))
    with pytest.raises(InvalidArgument, match="mount at"):
        make(volumes=[ResolvedMount("bind", "/v", target)])
    with pytest.raises(InvalidArgument, match="the image's volume"):
        mounts.image_volumes(Wishes(), image(Volumes={target: {}}))


def test_target_with_nul_is_refused() -> None:
    """No text is cut at a character that the kernel takes for its end."""
    with pytest.raises(InvalidArgument, match="NUL"):
        make(mounts=(MountWish("tmpfs", "/a\0b"),))


def test_one_place_is_asked_for_once() -> None:
    """Two mounts at one place are a mistake, also when one of them is a volume or spelt in another way."""
    twice = (MountWish("tmpfs", "/a"), MountWish("bind", "/a/.", "/srv"))
    with pytest.raises(InvalidArgument, match="two things"):
        make(mounts=twice)
    with pytest.raises(InvalidArgument, match="two things"):
        make(mounts=twice[:1], volumes=[ResolvedMount("bind", "/v", "/a")])


def test_source_must_be_there() -> None:
    """A bind of a path that isn't absolute, or isn't on the host, is refused with advice."""
    with pytest.raises(InvalidArgument, match="absolute"):
        make(mounts=(MountWish("bind", "/a", "name"),))
    with pytest.raises(NotFound, match="/none") as raised:
        make(mounts=(MountWish("bind", "/a", "/none"),))
    assert "create" in raised.value.next_step


def test_bind_passes_nothing_on_without_a_wish() -> None:
    """A bind is recursive and private; read-only means all below it where the kernel can do that."""
    assert mounted(mounts=(MountWish("bind", "/a", "/srv"),))["/a"]["options"] == ["rbind", "rprivate"]
    wish = (MountWish("bind", "/a", "/srv", read_only=True),)
    assert mounted(mounts=wish)["/a"]["options"] == ["rbind", "ro", "rro", "rprivate"]
    assert mounted(mounts=wish, host=replace(HOST, kernel=(5, 11)))["/a"]["options"] == ["rbind", "ro", "rprivate"]
    alone = (MountWish("bind", "/a", "/srv", read_only=True, options=("bind", "nosuid")),)
    assert mounted(mounts=alone)["/a"]["options"] == ["bind", "nosuid", "ro", "rprivate"]


@pytest.mark.parametrize(
    ("propagation", "source", "possible", "root"),
    [
        ("rshared", "/shared", True, "shared"),
        ("shared", "/slave", False, ""),
        ("rslave", "/slave", True, ""),
        ("slave", "/shared", True, ""),
        ("rslave", "/srv", False, ""),
        ("private", "/srv", True, ""),
    ],
)
def test_propagation_is_what_the_host_can_pass_on(propagation: str, source: str, possible: bool, root: str) -> None:
    """A mount is shared only where its source is; else that is said, with what to do."""
    wishes = Wishes(mounts=(MountWish("bind", "/a", source, propagation=propagation),))
    if not possible:
        with pytest.raises(FailedPrecondition, match="passed on"):
            make(wishes)
        return
    made = make(wishes)
    assert propagation in made["mounts"][3]["options"] and made["linux"].get("rootfsPropagation", "") == root


def test_tmpfs_has_quiet_defaults() -> None:
    """No devices, programs or setuid bits and at most half of the memory, unless one's own option says otherwise."""
    found = mounted(
        mounts=(
            MountWish("tmpfs", "/a"),
            MountWish("tmpfs", "/b", options=("exec", "size=1m", "mode=1777", "uid=5", "size=2m")),
            MountWish("tmpfs", "/c", read_only=True),
        )
    )
    assert found["/a"]["options"] == ["nosuid", "noexec", "nodev", "size=50%", "rw"]
    assert found["/b"]["options"] == ["nosuid", "nodev", "rw", "exec", "mode=1777", "uid=5", "size=2m"]
    assert "ro" in found["/c"]["options"]


@pytest.mark.parametrize(
    "option", ["", "none", "size=", "size=1x", "mode=9", "lowerdir=/", "remount", "rbind", "uid=-1"]
)
def test_option_that_is_none_is_refused(option: str) -> None:
    """Only options that are known pass: none reaches another file system or changes how it is mounted."""
    with pytest.raises(InvalidArgument, match="no option"):
        make(mounts=(MountWish("tmpfs", "/a", options=(option,)),))


@pytest.mark.parametrize("wish", [MountWish("tmpfs", "/a", "/srv"), MountWish("tmpfs", "/a", propagation="shared")])
def test_tmpfs_has_no_source(wish: MountWish) -> None:
    """A file system in memory comes from nowhere."""
    with pytest.raises(InvalidArgument, match="neither source nor propagation"):
        make(mounts=(wish,))


def test_volumes_of_the_image_are_those_that_nothing_is_mounted_at() -> None:
    """An image's volume gives way to what the request mounts there."""
    config = image(Volumes={"/data/": {}, "/data": {}, "/other": {}})
    wishes = Wishes(mounts=(MountWish("tmpfs", "/other/"),))
    assert mounts.image_volumes(wishes, config) == ("/data",)


def test_privileged_container_may_write_to_sys() -> None:
    """Docker's rule: /sys and the cgroups can be written."""
    found = mounted(security=SecurityWishes(privileged=True))
    assert all("ro" not in found[place]["options"] for place in ("/sys", "/sys/fs/cgroup"))


def test_shared_memory_of_the_host_is_bound() -> None:
    """In the host's namespace for it, a container sees the host's own shared memory, as far as there is any."""
    shared = NamespaceWishes(ipc="host")
    found = mounted(namespaces=shared)
    assert found["/dev/shm"]["source"] == "/dev/shm" and found["/dev/mqueue"]["type"] == "mqueue"
    both = replace(OWN_IDS, ipc="host")
    assert mounted(namespaces=both)["/dev/mqueue"]["type"] == "bind"
    bare = replace(HOST, ipc_places=())
    found = mounted(namespaces=both, host=bare)
    assert found["/dev/shm"]["type"] == "tmpfs" and "/dev/mqueue" not in found


def test_user_namespace_mounts_what_it_may() -> None:
    """Group 5 is named only where it is mapped; on the host's network /sys is the host's, read-only."""
    assert "gid=5" in mounted(namespaces=OWN_IDS)["/dev/pts"]["options"]
    few = NamespaceWishes(user_ids=OWN_IDS.user_ids, group_ids=(IdRange(0, 1, 5), IdRange(1001, 9000, 1)))
    made = make(namespaces=few, user=User(1000, 1001, (1001,)))
    assert all("gid=5" not in mount["options"] for mount in made["mounts"])
    found = mounted(namespaces=OWN_IDS, network="host")["/sys"]
    assert found["type"] == "bind" and {"rbind", "ro", "rro", "nosuid", "noexec", "nodev"} <= set(found["options"])
