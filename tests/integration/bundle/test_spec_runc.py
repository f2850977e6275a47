"""Specs with many wishes at once run under a real runc, and the container sees what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hythe import tracing
from hythe.errors import FailedPrecondition, NotFound
from hythe.oci import default_platform
from hythe_bundle import capabilities
from hythe_bundle.adapters.local_host import LocalHost
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.wishes import (
    DeviceWish,
    HookWish,
    IoLimit,
    MountWish,
    NamespaceWishes,
    ResourceWishes,
    RlimitWish,
    SecurityWishes,
    Wishes,
)
from scripts.lab.images import ImageBuilder, Layer, busybox
from tests.fixtures.bundles import Rig
from tests.fixtures.runtimes import Runtime, runtime

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runtime]:
    """A runc of this test; nothing of it is left at the end."""
    with runtime(tmp_path / "runc") as made:
        yield made


@pytest.fixture
def host() -> HostFacts:
    """This machine."""
    return LocalHost(default_platform()).facts()


def device_number(name: str) -> str:
    """Return the number of a disk of this machine as the kernel writes it."""
    return Path("/sys/block", name, "dev").read_text().strip()


def namespaces_of_this_process() -> list[str]:
    """Return the identities of the namespaces that this process is in."""
    return [str(Path("/proc/self/ns", name).readlink()) for name in ("pid", "ipc", "uts", "net", "mnt")]


async def run(
    rig: Rig,
    runc: Runtime,
    script: str,
    wishes: Wishes,
    image: ImageBuilder | None = None,
    before: tuple[str, ...] = (),
) -> list[str]:
    """Run a shell script in a container with these wishes and return the lines that it prints."""
    target = rig.blobs.add((image or busybox()).build())
    wanted = rig.request(target, replace(wishes, args=("sh", "-c", f"exec 2>&1\n{script}\ntrue")))
    done = runc.run(await rig.bundles.prepare(wanted, rig.reports.append), before)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_identity_limits_and_kernel_settings_are_what_was_asked_for(rig: Rig, runc: Runtime) -> None:
    """User and groups by name, limits, scores, names and settings of the own namespaces, powers dropped: all at once."""
    wishes = Wishes(
        user="app",
        groups=("video", "777"),
        hostname="web",
        domainname="lab.test",
        rlimits=(RlimitWish("nofile", 100, 200), RlimitWish("core", 0, 0)),
        oom_score_adj=500,
        sysctls={"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmax": "65536", "fs.mqueue.msg_max": "11"},
        security=SecurityWishes(cap_add=("net_admin",), cap_drop=("MKNOD", "CAP_CHOWN"), no_new_privileges=True),
        read_only=True,
        shm_bytes=1 << 20,
    )
    accounts = Layer().file("etc/passwd", b"app:x:7:8::/:\n").file("etc/group", b"g:x:9:app\nvideo:x:44:\n")
    script = """
        id -u; id -g; id -G; hostname; cat /etc/hosts | head -1
        cd /proc/sys; cat kernel/domainname net/ipv4/ip_unprivileged_port_start kernel/shmmax fs/mqueue/msg_max
        ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj
        grep -E 'Cap(Inh|Bnd|Amb)|NoNewPrivs' /proc/self/status
        touch /x; df -k /dev/shm | tail -1
    """
    out = await run(rig, runc, script, wishes, busybox().layer(accounts))
    assert out[:5] == ["7", "8", "8 9 44 777", "web", "127.0.0.1\tlocalhost web.lab.test web"]
    assert out[5:9] == ["lab.test", "80", "65536", "11"] and out[9:13] == ["100", "200", "0", "500"]
    default = 0xA80425FB
    assert out[13:17] == [
        "CapInh:\t0000000000000000",
        f"CapBnd:\t{default & ~(1 << 27) & ~1 | 1 << 12:016x}",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ]
    assert "Read-only file system" in out[17] and out[18].split()[1] == "1024"


async def test_mounts_are_what_was_asked_for(rig: Rig, runc: Runtime, tmp_path: Path) -> None:
    """Directories and files of the host, read-only with all below them, and file systems in memory, in an order that works."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("of the host\n")
    wishes = Wishes(
        mounts=(
            MountWish("bind", "/data/deep/er", str(source / "file")),
            MountWish("bind", "/data", str(source), read_only=True),
            MountWish("bind", "/made", str(tmp_path / "new/place"), create=True),
            MountWish("tmpfs", "/t1"),
            MountWish("tmpfs", "/t2", options=("size=1m", "exec", "mode=700")),
            MountWish("bind", "/etc/hosts", str(source / "file")),
        )
    )
    script = """
        cat /etc/hosts /data/file; touch /data/x; touch /data/below/x; echo w > /made/w
        grep -E ' /(t1|t2|data/below) ' /proc/mounts | cut -d' ' -f2,4
    """
    (source / "deep").mkdir()
    (source / "deep/er").touch()
    below = ("unshare", "--mount", "sh", "-ec", f'mount -t tmpfs x {source}/below; exec "$@"', "below")
    out = await run(rig, runc, script, wishes, before=below)
    assert out[:2] == ["of the host", "of the host"]
    assert all("Read-only file system" in line for line in out[2:4])
    found = {line.split()[0]: set(line.split()[1].split(",")) for line in out[4:]}
    assert "ro" in found["/data/below"]
    assert {"nosuid", "nodev", "noexec"} <= found["/t1"]
    assert {"nosuid", "nodev", "size=1024k", "mode=700"} <= found["/t2"] and "noexec" not in found["/t2"]
    assert (tmp_path / "new/place/w").read_text() == "w\n"


async def test_mount_target_through_a_link_stays_in_the_image(rig: Rig, runc: Runtime, tmp_path: Path) -> None:
    """A link of the image can't lead a mount out of it, nor over /proc: the runtime resolves it within the root."""
    (tmp_path / "source").mkdir()
    canary = tmp_path / "canary"
    canary.mkdir()
    layer = Layer().symlink("out", f"../../../..{canary}").symlink("trap", "/proc/self")
    wishes = Wishes(mounts=(MountWish("bind", "/out/in", str(tmp_path / "source")),))
    script = f"grep -c ' {canary}/in ' /proc/mounts"
    assert await run(rig, runc, script, wishes, busybox().layer(layer)) == ["1"]
    assert list(canary.iterdir()) == []
    trap = replace(wishes, args=("true",), mounts=(MountWish("bind", "/trap", str(tmp_path / "source")),))
    target = rig.blobs.add(busybox().layer(layer).build())
    done = runc.run(await rig.bundles.prepare(rig.request(target, trap), rig.reports.append))
    assert done.returncode != 0 and "/proc" in done.stderr


async def test_cgroup_has_the_limits_that_were_asked_for(rig: Rig, runc: Runtime) -> None:
    """Memory, swap, processors, processes and rates of a disk are in the container's own cgroup files."""
    number = device_number("loop0")
    wishes = Wishes(
        resources=ResourceWishes(
            memory_bytes=32 << 20,
            memory_swap_bytes=64 << 20,
            memory_reservation_bytes=16 << 20,
            memory_swappiness=10,
            oom_kill_disable=True,
            cpus=0.5,
            cpu_shares=512,
            cpuset_cpus="0",
            cpuset_mems="0",
            pids=50,
            io=(IoLimit("/dev/loop0", read_bytes_s=1 << 20, write_ops_s=200),),
        )
    )
    script = """
        cd /sys/fs/cgroup/memory; cat memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes
        cat memory.swappiness; head -1 memory.oom_control
        cd ..; cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max
        cat blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_iops_device
    """
    assert await run(rig, runc, script, wishes) == [
        *(str(32 << 20), str(64 << 20), str(16 << 20), "10", "oom_kill_disable 1"),
        *("50000", "100000", "512", "0", "50", f"{number} {1 << 20}", f"{number} 200"),
    ]


async def test_devices_are_those_that_were_asked_for(rig: Rig, runc: Runtime) -> None:
    """A device can be opened where it is given with the right to; what isn't given can't, even by a node of one's own."""
    wishes = Wishes(
        devices=(DeviceWish("/dev/fuse", "/dev/own"), DeviceWish("/dev/net")),
        resources=ResourceWishes(device_rules=("b 7:* r",)),
    )
    script = """
        true < /dev/own && echo own; ls /dev/net; ls /dev/fuse
        mknod /tmp/loop b 7 1 && true < /tmp/loop && echo rule
        mknod /tmp/control c 10 237 && true < /tmp/control
    """
    out = await run(rig, runc, script, wishes)
    assert out[:2] == ["own", "tun"] and "No such file" in out[2] and out[3] == "rule"
    assert "Operation not permitted" in out[4]
    with pytest.raises(NotFound):
        await run(rig, runc, "true", Wishes(devices=(DeviceWish("/dev/none"),)))


async def test_filter_really_denies(rig: Rig, runc: Runtime) -> None:
    """The default filter denies mounts until the capability for them is given; a filter of one's own denies what it says."""
    script = "mkdir /m; mount -t tmpfs x /m && echo mounted; unshare -m echo apart"
    assert all("not permitted" in line or "denied" in line for line in await run(rig, runc, script, Wishes()))
    allowed = SecurityWishes(cap_add=("SYS_ADMIN",))
    assert await run(rig, runc, script, Wishes(security=allowed)) == ["mounted", "apart"]
    own = (
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errno":"EXDEV"}]}'
    )
    out = await run(rig, runc, "mkdir /m", Wishes(security=SecurityWishes(seccomp=own)))
    assert "link" in out[0] or "device" in out[0]
    unconfined = Wishes(security=SecurityWishes(seccomp="unconfined"))
    assert await run(rig, runc, "grep -c 'Seccomp:.0' /proc/self/status", unconfined) == ["1"]


async def test_masked_paths_show_only_where_asked(rig: Rig, runc: Runtime) -> None:
    """What tells of the host is empty, and the kernel's switches read-only, unless the container is unmasked."""
    script = (
        "cat /proc/timer_list | wc -l; ls /sys/firmware | wc -l; echo 1 > /proc/sys/net/ipv4/ip_forward && echo set"
    )
    out = await run(rig, runc, script, Wishes())
    assert out[:2] == ["0", "0"] and "Read-only" in out[2]
    out = await run(rig, runc, script, Wishes(security=SecurityWishes(unmask=True, cap_add=("NET_ADMIN",))))
    assert int(out[0]) > 0 and int(out[1]) > 0 and out[2] == "set"


async def test_privileged_container_has_all_of_the_host(rig: Rig, runc: Runtime, host: HostFacts) -> None:
    """All capabilities that there are, every device, /sys and cgroups to write, no filter, nothing masked."""
    script = """
        grep CapBnd /proc/self/status; grep Seccomp: /proc/self/status; cat /sys/fs/cgroup/devices/devices.list
        grep -cE ' (/sys|/sys/fs/cgroup/memory) .* rw' /proc/mounts; cat /proc/timer_list | head -1 | wc -l
        ls /dev/loop-control /dev/console
    """
    out = await run(rig, runc, script, Wishes(security=SecurityWishes(privileged=True)))
    bits = sum(1 << number for number, name in enumerate(capabilities.NAMES) if name in host.capabilities)
    assert out[:5] == [f"CapBnd:\t{bits:016x}", "Seccomp:\t0", "a *:* rwm", "2", "1"]
    assert out[5:] == ["ls: /dev/console: No such file or directory", "/dev/loop-control"]


async def test_namespaces_of_the_host_are_shared(rig: Rig, runc: Runtime, host: HostFacts) -> None:
    """A container can have the host's processes, memory, name, cgroups and network instead of its own."""
    shared = NamespaceWishes(pid="host", ipc="host", uts="host", cgroup="host")
    out = await run(
        rig,
        runc,
        "for n in pid ipc uts net mnt; do readlink /proc/self/ns/$n; done; hostname; cat /etc/hostname",
        Wishes(network="host", namespaces=shared),
    )
    own = namespaces_of_this_process()
    assert out[:4] == own[:4] and out[4] != own[4] and out[5:] == [host.name, host.name]


class Traced(tracing._NoBackend):
    """Says that every request is part of one trace."""

    def inject(self, headers: dict[str, str]) -> None:
        """See `tracing.Backend.inject`."""
        headers["traceparent"] = TRACEPARENT


@pytest.fixture
def traced() -> Iterator[None]:
    """All that this test asks for is part of one trace."""
    before = tracing._backend
    tracing.install(Traced())
    yield
    tracing.install(before)


async def test_hooks_run_with_the_trace_of_the_request(rig: Rig, runc: Runtime, tmp_path: Path, traced: None) -> None:
    """A program of the host runs at its stage, with its own arguments and environment, and learns of container and trace."""
    script = f"env > {tmp_path}/env; cat > {tmp_path}/state; echo $0 $1 > {tmp_path}/args"
    hook = HookWish("createRuntime", "/bin/sh", ("sh", "-c", script, "zero", "one"), ("A=1",), 5)
    assert await run(rig, runc, "echo ran", Wishes(hooks=(hook,), annotations={"lab": "x"})) == ["ran"]
    assert {"A=1", f"TRACEPARENT={TRACEPARENT}"} <= set((tmp_path / "env").read_text().splitlines())
    assert '"lab":"x"' in (tmp_path / "state").read_text() and (tmp_path / "args").read_text() == "zero one\n"


async def test_limit_beyond_the_hosts_is_said_before_the_start(rig: Rig, host: HostFacts) -> None:
    """What this host can't grant is an error with advice, not one of the runtime after all else is done."""
    over = host.most_open_files + 1
    wanted = rig.request(rig.blobs.add(busybox().build()), Wishes(rlimits=(RlimitWish("nofile", over, over),)))
    with pytest.raises(FailedPrecondition) as raised:
        await rig.bundles.prepare(wanted, rig.reports.append)
    assert raised.value.outcome == "not started" and "ask for at most" in raised.value.next_step
