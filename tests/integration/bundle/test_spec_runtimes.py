"""Specs run under runc with a user namespace, and under crun with control groups of version 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from hythe.identifiers import new_id
from hythe.oci import default_platform, parse_config
from hythe_bundle import host_facts, spec
from hythe_bundle.adapters.local_host import LocalHost
from hythe_bundle.host_facts import Source
from hythe_bundle.users import User
from hythe_bundle.wishes import (
    DeviceWish,
    IdRange,
    MountWish,
    NamespaceWishes,
    ResourceWishes,
    RlimitWish,
    SecurityWishes,
    Wishes,
)
from scripts.lab.images import ImageBuilder
from tests.fixtures.runtimes import CGROUP, IN_CGROUP_2, Runtime, plain_bundle, runtime

FIRST_ID = 200_000
OWN_IDS = NamespaceWishes(user_ids=(IdRange(0, FIRST_ID, 65_536),))
ROOT = User(0, 0, (0,))


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runtime]:
    """A runc of this test; nothing of it is left at the end."""
    with runtime(tmp_path / "runc") as made:
        yield made


@pytest.fixture
def crun(tmp_path: Path) -> Iterator[Runtime]:
    """A crun of this test, which sees control groups of version 2 alone; nothing of it is left at the end."""
    with runtime(tmp_path / "crun", "crun", IN_CGROUP_2) as made:
        yield made


def config(
    script: str, wishes: Wishes, user: User = ROOT, version: Literal[1, 2] = 1, shared: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the spec of a container that runs a shell script.

    Args:
        version: of the control groups that the runtime will see.
        shared: sources of binds that will be shared mounts when the runtime runs.
    """
    host = LocalHost(default_platform())
    facts = replace(host.facts(), cgroup_version=version)
    found = host_facts.find(wishes, host, create=False)
    found = replace(found, sources={**found.sources, **{path: Source(shared=True) for path in shared}})
    container_id = new_id()
    request = spec.SpecRequest(
        container_id=container_id,
        wishes=replace(wishes, args=("sh", "-c", f"exec 2>&1\n{script}\ntrue")),
        config=parse_config(ImageBuilder().config(Env=["PATH=/bin"]).build().config.data),
        user=user,
        cgroup_path=f"{CGROUP}/{container_id}",
    )
    return spec.make(request, facts, found)


def run(made: Runtime, spec_of_it: dict[str, Any], owner: int = 0, before: Sequence[str] = ()) -> list[str]:
    """Run a container on a root file system that belongs to `owner` and return the lines that it prints."""
    with plain_bundle(spec_of_it, owner) as path:
        done = made.run_bundle(path, before)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("network", "ipc"), [("none", "private"), ("host", "private"), ("none", "host")])
def test_root_of_a_user_namespace_is_nobody_outside(runc: Runtime, network: str, ipc: Any) -> None:
    """The container's root has another id on the host, whatever else is shared; terminals and devices are there all the same."""
    wishes = Wishes(network=network, namespaces=replace(OWN_IDS, ipc=ipc), devices=(DeviceWish("/dev/fuse"),))
    script = """
        busybox id -u; busybox cat /proc/self/uid_map; busybox ls -d /dev/shm /dev/pts/ptmx /dev/fuse
        busybox touch /sys/x; busybox grep -cE ' /sys[ /].* rw,' /proc/mounts; busybox readlink /proc/self/ns/net
    """
    out = run(runc, config(script, wishes), FIRST_ID)
    assert out[0] == "0" and out[1].split() == ["0", str(FIRST_ID), "65536"]
    assert out[2:5] == ["/dev/fuse", "/dev/pts/ptmx", "/dev/shm"] and "Read-only" in out[5]
    assert (out[7] == str(Path("/proc/self/ns/net").readlink())) == (network == "host")


def test_map_without_group_of_terminals_runs(runc: Runtime) -> None:
    """Where group 5 is mapped to nobody, terminals belong to root instead of not being there."""
    few = NamespaceWishes(user_ids=(IdRange(0, FIRST_ID, 5),))
    out = run(runc, config("busybox ls -nd /dev/pts/ptmx; busybox id -g", Wishes(namespaces=few)), FIRST_ID)
    assert out[0].startswith("c") and out[1] == "0"


def test_settings_of_own_namespaces_are_set_in_a_user_namespace(runc: Runtime) -> None:
    """Network and memory settings are the namespace's own, and its root may set them."""
    settings = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536", "fs.mqueue.msg_max": "11"}
    script = "cd /proc/sys; busybox cat net/ipv4/ip_forward kernel/shmmax fs/mqueue/msg_max"
    assert run(runc, config(script, Wishes(namespaces=OWN_IDS, sysctls=settings)), FIRST_ID) == ["1", "65536", "11"]


@pytest.mark.parametrize(("propagation", "seen"), [("rshared", "1"), ("", "0")])
def test_mount_is_passed_on_to_the_host_only_where_asked(
    runc: Runtime, tmp_path: Path, propagation: str, seen: str
) -> None:
    """With ``rshared`` the host sees what a container mounts, otherwise it doesn't."""
    source = tmp_path / "source"
    source.mkdir()
    wishes = Wishes(
        mounts=(MountWish("bind", "/shared", str(source), propagation=propagation),),
        security=SecurityWishes(cap_add=("SYS_ADMIN",)),
    )
    script = "busybox mkdir -p /shared/in && busybox mount -t tmpfs x /shared/in && echo mounted"
    share = f"mount -t tmpfs x {source}; mount --make-shared {source}; "
    count = f'"$@"; grep -c " {source}/in " /proc/self/mountinfo || true'
    before = ("unshare", "--mount", "sh", "-ec", share + count, "shared")
    assert run(runc, config(script, wishes, shared=[str(source)]), before=before) == ["mounted", seen]


def test_crun_runs_the_same_spec_on_cgroup_2(crun: Runtime) -> None:
    """Identity, names, limits, mounts, powers, filter and masks are the same under another runtime and the newer cgroups."""
    wishes = Wishes(
        hostname="web",
        domainname="lab.test",
        rlimits=(RlimitWish("nofile", 100, 200),),
        sysctls={"kernel.shmmax": "65536"},
        oom_score_adj=100,
        mounts=(MountWish("tmpfs", "/t", options=("size=1m",)), MountWish("bind", "/data", "/usr/bin", read_only=True)),
        security=SecurityWishes(no_new_privileges=True, cap_drop=("mknod",)),
        devices=(DeviceWish("/dev/fuse"),),
        read_only=True,
    )
    script = """
        busybox id -u; busybox id -G; busybox hostname
        cd /proc/sys/kernel; busybox cat domainname shmmax; cd /; ulimit -n; busybox cat /proc/self/oom_score_adj
        busybox grep -E 'Cap(Inh|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status
        busybox grep -E ' /sys/fs/cgroup ' /proc/mounts | busybox cut -d' ' -f3
        echo $(busybox cat /proc/keys /proc/timer_list | busybox wc -c) $(busybox ls /sys/firmware | busybox wc -l)
        true < /dev/fuse && echo fuse; busybox mount -t tmpfs x /tmp; echo > /x; echo > /data/x
    """
    made = config(script, wishes, User(0, 7, (7, 44)), version=2)
    del made["linux"]["resources"]["devices"]  # this machine's cgroups of version 2 hold no devices
    out = run(crun, made)
    assert out[:3] == ["0", "7 44", "web"] and out[3:7] == ["lab.test", "65536", "100", "100"]
    assert out[7:11] == [
        "CapInh:\t0000000000000000",
        f"CapBnd:\t{0xA80425FB & ~(1 << 27):016x}",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ]
    assert out[11:14] == ["cgroup2", "0 0", "fuse"]
    assert "ermi" in out[14] and all("Read-only file system" in line for line in out[15:17])


def test_crun_runs_a_user_namespace(crun: Runtime) -> None:
    """Root of the container is nobody outside under crun, too."""
    made = config("busybox id -u; busybox cat /proc/self/uid_map", Wishes(namespaces=OWN_IDS), version=2)
    del made["linux"]["resources"]["devices"]  # as above
    assert run(crun, made, FIRST_ID)[1].split() == ["0", str(FIRST_ID), "65536"]


def test_limits_that_version_2_has_not_are_refused() -> None:
    """What would be left out in silence there is said."""
    for wishes in (ResourceWishes(memory_swappiness=1), ResourceWishes(memory_bytes=1 << 30, oom_kill_disable=True)):
        with pytest.raises(Exception, match="version 2"):
            config("true", Wishes(resources=wishes), version=2)
