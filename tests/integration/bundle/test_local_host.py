"""What the bundle service sees of the machine that it runs on."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hythe.errors import InvalidArgument
from hythe.oci import default_platform
from hythe_bundle import host_facts
from hythe_bundle.adapters.local_host import LocalHost
from hythe_bundle.host_facts import Device
from hythe_bundle.wishes import DeviceWish, MountWish, ResourceWishes, SecurityWishes, Wishes


@pytest.fixture
def host() -> LocalHost:
    """This machine."""
    return LocalHost(default_platform())


def test_facts_are_those_of_this_machine(host: LocalHost) -> None:
    """Name, processors, limits and capabilities are what this process has."""
    facts = host.facts()
    assert (facts.name, facts.architecture) == (os.uname().nodename, default_platform().architecture)
    assert len(facts.cpus) == os.sysconf("SC_NPROCESSORS_ONLN") and facts.kernel >= (4, 0)
    assert facts.limits.get("nofile") == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert "CAP_SYS_ADMIN" in facts.capabilities and facts.most_open_files >= 1024
    assert facts.may_raise_limits == ("CAP_SYS_RESOURCE" in facts.capabilities)
    assert (facts.apparmor is not None) == Path("/sys/kernel/security/apparmor").exists()


def test_cgroups_of_version_2_are_seen(host: LocalHost) -> None:
    """Which version runtimes will use is what is mounted at the usual place."""
    code = (
        "from hythe.oci import default_platform; from hythe_bundle.adapters.local_host import LocalHost; "
        "print(LocalHost(default_platform()).facts().cgroup_version)"
    )
    script = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", script, "x", sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2\n"


def test_devices_are_found_with_numbers_mode_and_owner(host: LocalHost, tmp_path: Path) -> None:
    """One device by its path or a link to it, all below a directory, and nothing where there is none."""
    os.mknod(tmp_path / "one", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(tmp_path / "one", 5, 6)
    (tmp_path / "below").mkdir()
    os.mknod(tmp_path / "below/two", 0o600 | stat.S_IFBLK, os.makedev(7, 99))
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "dead").symlink_to("none")
    one = Device(str(tmp_path / "one"), "c", 1, 3, 0o640, 5, 6)
    two = Device(str(tmp_path / "below/two"), "b", 7, 99, 0o600, 0, 0)
    assert host.devices(f"{tmp_path}//one") == (one,)
    assert [(each.path, each.minor) for each in host.devices(str(tmp_path / "link"))] == [(str(tmp_path / "link"), 3)]
    assert set(host.devices(str(tmp_path))) == {one, two}
    for name in ("file", "dead", "none", "file/x"):
        assert host.devices(str(tmp_path / name)) == ()
    assert not any(each.path.startswith("/dev/pts/") for each in host.devices("/dev"))


def test_source_is_made_where_that_is_asked_for(host: LocalHost, tmp_path: Path) -> None:
    """A missing directory is made with its parents; a file, a directory or a socket that is there stays."""
    missing = tmp_path / "a/b"
    assert host.source(str(missing), create=False, mounts=False) is None and not missing.exists()
    assert host.source(str(missing), create=True, mounts=False) and missing.is_dir()
    (tmp_path / "file").touch()
    for _ in range(2):
        assert host.source(str(tmp_path / "file"), create=True, mounts=True)
    with pytest.raises(InvalidArgument, match="looked at"):
        host.source(str(tmp_path / "file/x"), create=True, mounts=False)


def test_way_that_mounts_are_passed_on_is_known(host: LocalHost, tmp_path: Path) -> None:
    """A source lies in a shared mount, in a slave of one, or in neither."""
    code = (
        "import sys; from hythe.oci import default_platform; from hythe_bundle.adapters.local_host import LocalHost; "
        "found = LocalHost(default_platform()).source(sys.argv[1], create=True, mounts=True); "
        "print(found.shared, found.slave)"
    )
    place = tmp_path / "with space"
    place.mkdir()
    share = f'mount -t tmpfs x "{place}"; mount --make-shared "{place}"; "$@"; true'  # stays, so that there is a master
    answers = []
    for kind in ("private", "unchanged", "slave"):
        command = ["unshare", "--mount", "sh", "-ec", share, "x", "unshare", "--mount", "--propagation", kind]
        command += [sys.executable, "-c", code, str(place / "below")]
        answers.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert answers == ["False False", "True False", "False True"]


def test_only_what_is_wished_for_is_looked_up(host: LocalHost, tmp_path: Path) -> None:
    """A plain container costs no look at the host; paths that are none are left for the spec to refuse."""
    assert not host_facts.needs_look(Wishes(mounts=(MountWish("tmpfs", "/t"),)))
    for wishes in (
        Wishes(mounts=(MountWish("bind", "/t", "/srv"),)),
        Wishes(devices=(DeviceWish("/dev/null"),)),
        Wishes(security=SecurityWishes(privileged=True)),
        Wishes(resources=ResourceWishes(io_weight=10)),
    ):
        assert host_facts.needs_look(wishes)
    odd = Wishes(
        mounts=(MountWish("bind", "/t", "relative", create=True), MountWish("bind", "/u", str(tmp_path))),
        devices=(DeviceWish("null"), DeviceWish("/dev/null")),
    )
    found = host_facts.find(odd, host, create=True)
    assert set(found.sources) == {str(tmp_path)} and set(found.devices) == {"/dev/null"}
    later = Wishes(mounts=(MountWish("bind", "/t", str(tmp_path / "later"), create=True),))
    assert host_facts.find(later, host, create=False).sources and not (tmp_path / "later").exists()
    assert host_facts.find(later, host, create=True).sources and (tmp_path / "later").is_dir()
