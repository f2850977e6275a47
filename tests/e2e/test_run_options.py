"""The flags of `hythe run` as a user meets them: what a container sees of each, and that nothing stays of those refused."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lab.images import Layer, machine_architecture
from scripts.lab.images import busybox as busybox_image
from scripts.lab.registry import Registry
from scripts.lab.stack import Completed, Stack
from tests.e2e.test_run import assert_nothing_of_containers
from tests.fixtures.waiting import eventually


@pytest.fixture(autouse=True)
def clean(stack: Stack) -> Iterator[None]:
    """Each test begins and ends without containers and volumes."""
    yield

    def left() -> list[str]:
        return stack.hythe("ps", "-a", "-q").stdout.split() + stack.hythe("volume", "ls", "-q").stdout.split()

    try:
        eventually(lambda: not left(), what="no container and no volume is left")
    finally:
        if names := left():
            stack.hythe("rm", "-f", *names)
            stack.hythe("volume", "rm", "-f", *names)
    assert_nothing_of_containers(stack)


@pytest.fixture(scope="module")
def declared(registry: Registry) -> str:
    """Reference of an image that has files in /srv/data for user 1000, and declares it and /cache as volumes."""
    layer = (
        Layer().directory("srv/data", mode=0o750, uid=1000, gid=1001).file("srv/data/seed", b"1", uid=1000, gid=1001)
    )
    volumes: dict[str, object] = {"/srv/data": {}, "/cache": {}}
    return registry.push(busybox_image().layer(layer).config(Volumes=volumes).build(), "declared:1")


def run(stack: Stack, *words: str, code: int = 0) -> Completed:
    """Run a container that is removed at its end, and check its exit code."""
    done = stack.hythe("run", "--rm", *words)
    assert done.code == code, done.stderr
    return done


def said(done: Completed) -> dict[str, str]:
    """Return what lines ``name=value`` of the output say."""
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def limits_of(version: int) -> tuple[str, dict[str, str]]:
    """Return a script that shows the limits of a container's cgroup, and what it shows for those of the test."""
    if version == 2:
        names = {"memory.max": "67108864", "memory.low": "33554432", "pids.max": "50", "cpu.max": "50000 100000"}
        return "".join(f'echo "{name}=$(cat /sys/fs/cgroup/{name})";' for name in names), names
    names = {
        "memory/memory.limit_in_bytes": "67108864",
        "memory/memory.soft_limit_in_bytes": "33554432",
        "pids/pids.max": "50",
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.shares": "512",
        "cpuset/cpuset.cpus": "0",
    }
    return "".join(f'echo "{name}=$(cat /sys/fs/cgroup/{name})";' for name in names), names


def test_limits_are_seen_in_the_containers_cgroup(stack: Stack, busybox: str) -> None:
    """Memory, processes, processors: what was asked for is what the kernel holds the container to."""
    script, expected = limits_of(2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1)
    flags = "-m 64m --memory-reservation 32m --pids-limit 50 --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0"
    assert said(run(stack, *flags.split(), busybox, "sh", "-c", script)) == expected


def test_limit_of_memory_is_held(stack: Stack, busybox: str) -> None:
    """A container that wants more memory than it may have is killed: 137."""
    wanted = ("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=64")
    run(stack, "-m", "16m", "--memory-swap", "16m", "--shm-size", "128m", busybox, *wanted, code=137)


def test_limit_of_processes_is_held(stack: Stack, busybox: str) -> None:
    """A container that forks more than it may can't, and the host doesn't notice."""
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 9 & done; true"
    done = stack.hythe("run", "--rm", "--pids-limit", "5", busybox, "sh", "-c", script)
    assert done.code != 0 and "can't fork" in done.stderr


def test_process_is_what_the_flags_make_it(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """User and groups, limits, rights, names, files in memory, kernel parameters, devices and variables: all at once."""
    (tmp_path / "env").write_text("# variables\nFROM_FILE=1\nBOTH=file\n")
    (tmp_path / "labels").write_text("from-file=1\n")
    flags = [
        *("-u", "1000:1001", "--group-add", "7", "--cap-drop", "ALL", "--cap-add", "chown", "--read-only"),
        *("--security-opt", "no-new-privileges", "--ulimit", "nofile=100:200", "--ulimit", "core=0"),
        *("--oom-score-adj", "300", "--sysctl", "net.ipv4.ip_forward=1", "--hostname", "hut", "--domainname", "a.test"),
        *("--tmpfs", "/scratch:size=1m,mode=1777", "--mount", "type=tmpfs,dst=/more,tmpfs-size=2m", "--shm-size", "8m"),
        *("--device", "/dev/null:/dev/nil", "--env-file", str(tmp_path / "env"), "-e", "BOTH=flag"),
        *("--label-file", str(tmp_path / "labels"), "-l", "by-flag=1", "--annotation", "test.annotation=1"),
    ]
    script = """
        cd /proc/self; for name in CapBnd NoNewPrivs Groups Uid; do echo "$name=$(grep ^$name status | cut -f2)"; done
        echo "soft=$(ulimit -n)"; echo "hard=$(ulimit -Hn)"; echo "core=$(ulimit -c)"; echo "oom=$(cat oom_score_adj)"
        echo "forward=$(cat /proc/sys/net/ipv4/ip_forward)"; echo "host=$(hostname).$(cat /proc/sys/kernel/domainname)"
        for path in /scratch /more /dev/shm; do echo "$path=$(df -k $path | tail -n1 | awk '{print $2}')"; done
        echo "root=$(touch /x 2>&1 | sed 's/.*: //')"; touch /scratch/x && echo scratch=ok; echo x >/dev/nil && echo nil=ok
        echo "file=$FROM_FILE"; echo "both=$BOTH"
    """
    shown = said(run(stack, *flags, busybox, "sh", "-c", script))
    assert shown == {
        "CapBnd": "0000000000000001",
        "NoNewPrivs": "1",
        "Uid": "1000",
        "Groups": shown["Groups"],
        "soft": "100",
        "hard": "200",
        "core": "0",
        "oom": "300",
        "forward": "1",
        "host": "hut.a.test",
        "/scratch": "1024",
        "/more": "2048",
        "/dev/shm": "8192",
        "root": "Read-only file system",
        "scratch": "ok",
        "nil": "ok",
        "file": "1",
        "both": "flag",
    }
    assert sorted(map(int, shown["Groups"].split())) == [7, 1001]


def test_device_is_no_more_than_was_asked_for(stack: Stack, busybox: str) -> None:
    """Without a flag a device can't be used; with `r` it can be read and not written; a rule allows one that is made inside."""
    script = "test -c $0 || mknod $0 c 10 237; true <$0 && echo read; true >$0 && echo write"
    used = (busybox, "sh", "-c", script)
    done = run(stack, *used, "/tmp/own", code=1)
    assert done.stdout == "" and done.stderr.count("not permitted") == 2
    done = run(stack, "--device", "/dev/loop-control:/dev/own:r", *used, "/dev/own", code=1)
    assert done.stdout == "read\n" and done.stderr.count("not permitted") == 1
    assert run(stack, "--device-cgroup-rule", "c 10:237 rw", *used, "/tmp/own").stdout == "read\nwrite\n"


def test_filter_of_ones_own_is_the_one_that_holds(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """A profile in a file forbids what it says; `unconfined` forbids nothing."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    script = "mkdir /tmp/x; grep ^Seccomp: /proc/self/status"
    done = run(stack, "--security-opt", f"seccomp={tmp_path}/profile.json", busybox, "sh", "-c", script)
    assert "not permitted" in done.stderr and done.stdout == "Seccomp:\t2\n"
    assert run(stack, "--security-opt", "seccomp=unconfined", busybox, "sh", "-c", script).stdout == "Seccomp:\t0\n"


def test_privileged_container_may_do_everything(stack: Stack, busybox: str) -> None:
    """All capabilities and devices, nothing masked, mounts allowed."""
    script = """
        mount -t tmpfs x /tmp && echo mounted=yes; echo all=$(ls /dev | wc -l)
        grep -q ' /proc/sys ' /proc/mounts || echo open=yes
    """
    shown = said(run(stack, "--privileged", busybox, "sh", "-c", script))
    assert (shown["mounted"], shown["open"]) == ("yes", "yes") and int(shown["all"]) > 15
    plain = said(run(stack, busybox, "sh", "-c", script))
    assert "mounted" not in plain and "open" not in plain and int(plain["all"]) < int(shown["all"])


def test_namespaces_are_shared_with_the_host_when_asked(stack: Stack, busybox: str) -> None:
    """Each of the flags gives the host's namespace, and without it the container has its own."""
    script = "for name in pid ipc uts cgroup net; do echo $name=$(readlink /proc/self/ns/$name); done"
    own = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("pid", "ipc", "uts", "cgroup", "net")}
    flags = "--pid host --ipc host --uts host --cgroupns host --network host"
    assert said(run(stack, *flags.split(), busybox, "sh", "-c", script)) == own
    shown = said(run(stack, busybox, "sh", "-c", script))
    assert shown.keys() == own.keys() and not set(shown.values()) & set(own.values())


def test_directories_of_the_host_are_bound(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """`-v` binds, and makes a missing source; `ro` is held; `--mount` of a missing one is an error that says so."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("from the host\n")
    binds = (
        "-v",
        f"{tmp_path}/in:/in:ro",
        "-v",
        f"{tmp_path}/made/deep:/out",
        "--mount",
        f"type=bind,src={tmp_path},dst=/t",
    )
    script = "cat /in/a; cp /in/a /out/b; cp /in/a /t/c; touch /in/x"
    done = run(stack, *binds, busybox, "sh", "-c", script, code=1)
    assert done.stdout == "from the host\n" and "Read-only file system" in done.stderr
    assert (tmp_path / "made" / "deep" / "b").read_text() == (tmp_path / "c").read_text() == "from the host\n"
    made = (tmp_path / "made").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid) == (0o755, 0)
    done = run(stack, "--mount", f"type=bind,src={tmp_path}/missing,dst=/x", busybox, "true", code=125)
    assert f"{tmp_path}/missing" in done.stderr and "no such file or directory" in done.stderr
    assert not (tmp_path / "missing").exists()


def test_volume_is_shared_and_outlives_its_containers(stack: Stack, declared: str, busybox: str) -> None:
    """A new volume begins with what the image has; others see what is written; it is removed when nobody uses it any more."""
    script = "cat /srv/data/seed; echo mine >/srv/data/new; ls -ldn /srv/data | awk '{print $1, $3, $4}'"
    done = run(stack, "-v", "data:/srv/data", declared, "sh", "-c", script)
    assert done.stdout == "1drwxr-x--- 1000 1001\n"
    assert run(stack, "-v", "data:/d", busybox, "cat", "/d/new").stdout == "mine\n"
    done = run(stack, "--mount", "src=data,dst=/d,readonly", busybox, "rm", "/d/new", code=1)
    assert "Read-only file system" in done.stderr
    assert stack.hythe("run", "--name", "holder", "-v", "data:/d", busybox, "true").code == 0
    refused = stack.hythe("volume", "rm", "data")
    assert refused.code == 6 and "uses it" in refused.stderr
    assert stack.hythe("rm", "holder").code == 0
    eventually(lambda: not json.loads(stack.hythe("volume", "ls", "--json").stdout)["containers"])
    assert run(stack, "-v", "data:/d", busybox, "cat", "/d/new").stdout == "mine\n"
    assert stack.hythe("volume", "rm", "data").stdout == "data\n"
    assert run(stack, "-v", "data:/d", busybox, "ls", "/d").stdout == ""
    assert stack.hythe("volume", "rm", "data").code == 0


def test_volumes_of_a_container_go_with_it(stack: Stack, declared: str) -> None:
    """`-v /dst` and the image's VOLUMEs are volumes of the container's own, which go when it is removed."""
    script = "cat /srv/data/seed; touch /cache/x /own/y; grep -c -E ' /(srv/data|cache|own) ' /proc/mounts"
    assert run(stack, "-v", "/own", declared, "sh", "-c", script).stdout == "13\n"
    eventually(lambda: not stack.hythe("volume", "ls", "-q").stdout)
    assert stack.hythe("run", "--name", "keeper", declared, "touch", "/cache/x").code == 0
    rows = [json.loads(line) for line in stack.hythe("volume", "ls", "--json").stdout.splitlines()]
    assert [row["anonymous"] for row in rows] == [True, True] and len({row["container"] for row in rows}) == 1
    assert stack.hythe("volume", "prune", "-f", "-a").stdout == "Total reclaimed space: 0 B\n"
    assert stack.hythe("rm", "keeper").code == 0
    eventually(lambda: not stack.hythe("volume", "ls", "-q").stdout)
    root = stack.root / "bundle" / "volumes"
    eventually(lambda: not list(root.glob("*/*")))


def test_volumes_are_listed_shown_and_pruned(stack: Stack) -> None:
    """`hythe volume` has Docker's columns, filters, templates and shape."""
    assert stack.hythe("volume", "create", "-l", "team=a", "--label", "x", "one").stdout == "one\n"
    assert stack.hythe("volume", "create", "one").stdout == "one\n"
    unnamed = stack.hythe("volume", "create").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", unnamed)
    lines = stack.hythe("volume", "ls").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["DRIVER", "VOLUME", "NAME"],
        *(["local", n] for n in sorted([unnamed, "one"])),
    ]
    for filters, names in (
        (["label=team=a", "dangling=true"], ["one"]),
        (["label=team", "label=x"], ["one"]),
        (["label=team=b"], []),
        (["name=n", "driver=local"], ["one"]),
        (["dangling=false"], []),
    ):
        words = [word for text in filters for word in ("-f", text)]
        assert stack.hythe("volume", "ls", "-q", *words).stdout.split() == names
    table = stack.hythe("volume", "ls", "-f", "name=one", "--format", "{{.Name}} {{.Labels}} {{.Links}}")
    assert table.stdout == "one team=a,x= 0\n"
    shown = stack.hythe("volume", "inspect", "one", "none")
    assert shown.code == 3 and "none" in shown.stderr
    (found,) = json.loads(shown.stdout)
    assert (found["Name"], found["Driver"], found["Labels"]) == ("one", "local", {"team": "a", "x": ""})
    assert Path(found["Mountpoint"]).is_dir()
    assert stack.hythe("volume", "inspect", "one", "--format", "{{.Scope}} {{.Labels.team}}").stdout == "local a\n"
    dry = stack.hythe("volume", "prune", "--dry-run", "-a").stdout
    assert "one" in dry and unnamed in dry
    assert stack.hythe("volume", "prune").code == 6
    assert unnamed in stack.hythe("volume", "prune", "--force").stdout
    assert stack.hythe("volume", "rm", "-f", "one", "none").stdout == "one\n"
    assert stack.hythe("volume", "rm", "none").code == 3
    assert stack.hythe("volume", "create", "../x").code == 2


def test_hook_knows_its_trace(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """A hook runs on the host at its stage, with its arguments, the container's state on stdin, and the run's trace."""
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\ncat >{tmp_path}/state\necho "$@" "$TRACEPARENT" >{tmp_path}/said\n')
    script.chmod(0o755)
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    words = ("run", "--rm", "--hook", f"createRuntime={script},one,two", busybox, "true")
    done = stack.hythe(*words, variables={"TRACEPARENT": parent})
    assert done.code == 0, done.stderr
    assert re.fullmatch(rf"one two 00-{parent[3:35]}-[0-9a-f]{{16}}-01\n", (tmp_path / "said").read_text())
    assert len(json.loads((tmp_path / "state").read_text())["id"]) >= 32


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-m", "12x"), "--memory '12x'"),
        (("-v", "data:etc"), "--volume 'data:etc'"),
        (("--cap-add", "NOPE", "-v", "data:/d", "-v", "/own"), "NOPE"),
        (("--device", "/dev/none-such", "-v", "data:/d", "-v", "/own"), "/dev/none-such"),
        (("--sysctl", "vm.swappiness=1", "-v", "data:/d"), "vm.swappiness"),
        (("-v", "data:/bin/busybox"), "/bin/busybox"),
        (("-v", "data:/proc/x", "-v", "/own"), "/proc"),
        (("--hook", "createRuntime=/none-such", "-v", "/own"), "/none-such"),
    ],
)
def test_bad_value_leaves_nothing(stack: Stack, busybox: str, words: tuple[str, ...], named: str) -> None:
    """What can't be is refused with 125 and its name, wherever it is noticed, and neither container nor volume stays."""
    done = run(stack, *words, busybox, "true", code=125)
    assert named in done.stderr
    eventually(lambda: not stack.hythe("volume", "ls", "-q").stdout)


def test_volume_at_a_link_of_the_image_stays_in_the_container(stack: Stack, registry: Registry, tmp_path: Path) -> None:
    """A declared volume whose place is a link to a directory of the host neither copies from there nor is mounted there."""
    (tmp_path / "secret").write_text("x")
    layer = Layer().symlink("evil", f"../../../../{tmp_path}")
    reference = registry.push(busybox_image().layer(layer).config(Volumes={"/evil": {}}).build(), "linked:1")
    done = run(stack, reference, "sh", "-c", "ls /evil; echo y >/evil/written; cat /evil/written")
    assert done.stdout == "y\n" and [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_hostile_volume_of_an_image_is_refused(stack: Stack, registry: Registry) -> None:
    """An image that declares a volume outside of itself doesn't run (CVE-2022-23648)."""
    hostile = busybox_image().config(Volumes={"/../../../../etc": {}}).build()
    reference = registry.push(hostile, f"hostile-{machine_architecture()}:1")
    assert "/../../../../etc" in run(stack, reference, "true", code=125).stderr
