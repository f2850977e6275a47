"""The flags of `hythe run` in Docker's forms: what each of them asks for, and how a bad value is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.cli import flag_values
from hythe.cli.container_flags import container_arguments, spec_of
from hythe.errors import InvalidArgument
from hythe.wire.container import ContainerSpec, IdRange, MountWish

DATA = {"type": "volume", "source": "data", "target": "/d"}
SRV = {"type": "bind", "source": "/srv", "target": "/d", "create": True}


def spec(*arguments: str) -> ContainerSpec:
    """Return what the flags ask for, as the services read it."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    container_arguments(parser)
    return ContainerSpec.model_validate(spec_of(parser.parse_args(arguments)))


def at(found: Any, path: str) -> Any:
    """Return the field of a field at a dotted path."""
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


def test_no_flag_asks_for_nothing() -> None:
    """Without flags every field is left to the image and to the defaults."""
    assert spec() == ContainerSpec()


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ("--group-add audio --group-add 7", "groups", ["audio", "7"]),
        ("--domainname example.test", "domainname", "example.test"),
        ("--shm-size 1.5m", "shm_bytes", 1_572_864),
        ("--cap-add NET_ADMIN --cap-add CAP_SYS_TIME", "security.cap_add", ["NET_ADMIN", "CAP_SYS_TIME"]),
        ("--cap-drop ALL", "security.cap_drop", ["ALL"]),
        ("--privileged", "security.privileged", True),
        ("--security-opt seccomp=unconfined", "security.seccomp", "unconfined"),
        ("--security-opt seccomp:unconfined", "security.seccomp", "unconfined"),
        ("--security-opt seccomp=builtin", "security.seccomp", ""),
        ("--security-opt apparmor=mine", "security.apparmor", "mine"),
        ("--security-opt no-new-privileges", "security.no_new_privileges", True),
        ("--security-opt no-new-privileges:true", "security.no_new_privileges", True),
        ("--security-opt no-new-privileges=false", "security.no_new_privileges", False),
        ("--security-opt systempaths=unconfined", "security.unmask", True),
        ("--oom-kill-disable", "resources.oom_kill_disable", True),
        ("--oom-score-adj -500", "oom_score_adj", -500),
        ("--oom-score-adj 0", "oom_score_adj", 0),
        ("-m 64m", "resources.memory_bytes", 64 << 20),
        ("--memory 1g", "resources.memory_bytes", 1 << 30),
        ("--memory 0", "resources.memory_bytes", 0),
        ("--memory-reservation 32MiB", "resources.memory_reservation_bytes", 32 << 20),
        ("-m 64m --memory-swap 128mb", "resources.memory_swap_bytes", 128 << 20),
        ("-m 64m --memory-swap -1", "resources.memory_swap_bytes", -1),
        ("--memory-swappiness 0", "resources.memory_swappiness", 0),
        ("--memory-swappiness -1", "resources.memory_swappiness", None),
        ("--cpus 1.5", "resources.cpus", 1.5),
        ("--cpus .5", "resources.cpus", 0.5),
        ("-c 512", "resources.cpu_shares", 512),
        ("--cpu-period 50000", "resources.cpu_period_us", 50_000),
        ("--cpu-quota 25000", "resources.cpu_quota_us", 25_000),
        ("--cpu-quota -1", "resources.cpu_quota_us", -1),
        ("--cpuset-cpus 0-3,5", "resources.cpuset_cpus", "0-3,5"),
        ("--cpuset-mems 0", "resources.cpuset_mems", "0"),
        ("--pids-limit 100", "resources.pids", 100),
        ("--pids-limit -1", "resources.pids", -1),
        ("--blkio-weight 500", "resources.io_weight", 500),
        ("--pid host", "namespaces.pid", "host"),
        ("--ipc host", "namespaces.ipc", "host"),
        ("--ipc private", "namespaces.ipc", "private"),
        ("--uts host", "namespaces.uts", "host"),
        ("--cgroupns host", "namespaces.cgroup", "host"),
        ("--userns host", "namespaces.user_ids", []),
        ("--sysctl net.ipv4.ip_forward=1 --sysctl a=b=c", "sysctls", {"net.ipv4.ip_forward": "1", "a": "b=c"}),
        ("--annotation a=1 --annotation b=", "annotations", {"a": "1", "b": ""}),
        ("-l a=1 -l a=2 -l b", "labels", {"a": "2", "b": ""}),
    ],
)
def test_flag_sets_its_field(arguments: str, field: str, value: object) -> None:
    """Each flag asks for exactly what Docker's flag of that name asks for."""
    assert at(spec(*arguments.split()), field) == value


@pytest.mark.parametrize(
    ("arguments", "wish"),
    [
        (("-v", "data:/d"), DATA),
        (("-v", "data:/d:ro"), {**DATA, "read_only": True}),
        (("-v", "data:/d:rw,nocopy,z"), {**DATA, "no_copy": True}),
        (("-v", "/d"), {**DATA, "source": ""}),
        (("-v", "/srv:/d"), SRV),
        (("-v", "/srv/../srv/:/x/..//d/"), SRV),
        (("-v", "/srv:/d:ro,rslave,Z"), {**SRV, "read_only": True, "propagation": "rslave"}),
        (("--mount", "src=data,dst=/d"), DATA),
        (("--mount", "type=volume,source=data,target=/d,volume-nocopy"), {**DATA, "no_copy": True}),
        (("--mount", "type=volume,dst=/d,volume-driver=local,volume-nocopy=false"), {**DATA, "source": ""}),
        (("--mount", "type=volume,src=data,destination=/d,ro=true"), {**DATA, "read_only": True}),
        (("--mount", "type=bind,src=/srv,dst=/d"), {**SRV, "create": False}),
        (("--mount", "type=bind,src=/srv,dst=/d,bind-create-src"), SRV),
        (("--mount", "type=bind,src=/srv,dst=/d,readonly,bind-propagation=shared"),
            {**SRV, "create": False, "read_only": True, "propagation": "shared"}),
        (("--mount", "type=bind,src=/srv,dst=/d,bind-recursive=disabled"),
            {**SRV, "create": False, "options": ["bind"]}),
        (("--mount", 'type=bind,"src=/with,comma",dst=/d'), {**SRV, "create": False, "source": "/with,comma"}),
        (("--mount", "type=tmpfs,dst=/d"), {"type": "tmpfs", "target": "/d"}),
        (("--mount", "type=tmpfs,dst=/d,tmpfs-size=64m,tmpfs-mode=01770"),
            {"type": "tmpfs", "target": "/d", "options": ["size=67108864", "mode=1770"]}),
        (("--tmpfs", "/d"), {"type": "tmpfs", "target": "/d"}),
        (("--tmpfs", "/d:ro,noexec,size=64k,mode=1777"),
            {"type": "tmpfs", "target": "/d", "read_only": True, "options": ["noexec", "size=64k", "mode=1777"]}),
    ],
)  # fmt: skip
def test_mount_in_dockers_form_is_understood(arguments: tuple[str, str], wish: dict[str, object]) -> None:
    """Volumes, binds and tmpfs are told apart as Docker does."""
    assert spec(*arguments).mounts == [MountWish.model_validate(wish)]


def test_relative_source_is_a_directory_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-v ./x:/y` is taken from where the command runs."""
    monkeypatch.chdir(tmp_path)
    wished = spec("-v", "./x:/a", "-v", ".:/b", "--mount", "type=bind,src=..,dst=/c").mounts
    assert [wish.source for wish in wished] == [str(tmp_path / "x"), str(tmp_path), str(tmp_path.parent)]


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("/dev/fuse", ("/dev/fuse", "", "rwm")),
        ("/dev/sda:r", ("/dev/sda", "", "r")),
        ("/dev/sda:/dev/xvda", ("/dev/sda", "/dev/xvda", "rwm")),
        ("/dev/sda:/dev/xvda:mr", ("/dev/sda", "/dev/xvda", "mr")),
    ],
)
def test_device_is_understood(text: str, wish: tuple[str, str, str]) -> None:
    """Source, target and permissions, of which the last two may be missing."""
    (found,) = spec("--device", text).devices
    assert (found.source, found.target, found.permissions) == wish


def test_rates_of_one_device_are_put_together() -> None:
    """The four flags limit a device at once; sizes have units, numbers of requests have none."""
    resources = spec(
        *(
            "--device-read-bps",
            "/dev/sda:1mb",
            "--device-write-bps",
            "/dev/sda:2k",
            "--device-read-iops",
            "/dev/sda:10",
        ),
        *("--device-write-iops", "/dev/sdb:20", "--device-cgroup-rule", "c 1:3 rwm"),
    ).resources
    first, second = resources.io
    assert (first.path, first.read_bytes_s, first.write_bytes_s, first.read_ops_s) == ("/dev/sda", 1 << 20, 2048, 10)
    assert (second.path, second.write_ops_s, resources.device_rules) == ("/dev/sdb", 20, ["c 1:3 rwm"])


def test_limits_of_processes_are_understood() -> None:
    """A lone value is both limits, the later of one name wins, and no limit has two spellings."""
    texts = ("nofile=100", "core=0:-1", "nproc=1:2", "nofile=1024:4096", "memlock=unlimited")
    found = spec(*(word for text in texts for word in ("--ulimit", text))).rlimits
    assert {limit.name: (limit.soft, limit.hard) for limit in found} == {
        "nofile": (1024, 4096),
        "core": (0, -1),
        "nproc": (1, 2),
        "memlock": (-1, -1),
    }


def test_id_maps_make_a_user_namespace() -> None:
    """Groups are mapped as users are unless they have maps of their own."""
    found = spec("--uidmap", "0:100000:65536", "--userns", "private").namespaces
    assert (found.user_ids, found.group_ids) == ([IdRange(container_id=0, host_id=100_000, size=65_536)], [])
    found = spec("--uidmap", "0:1:1", "--gidmap", "0:5:2").namespaces
    assert found.group_ids == [IdRange(container_id=0, host_id=5, size=2)]


def test_hooks_begin_with_their_own_name() -> None:
    """A program and its arguments, between commas."""
    first, second = spec("--hook", "prestart=/bin/a", "--hook", 'poststop=/bin/b,-x,"1,2"').hooks
    assert (first.stage, first.path, first.args) == ("prestart", "/bin/a", ["/bin/a"])
    assert (second.stage, second.path, second.args) == ("poststop", "/bin/b", ["/bin/b", "-x", "1,2"])


def test_variables_come_from_files_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of files come first; a name alone takes its value from here; comments and blank lines say nothing."""
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbfA=1\r\n# B=2\n\n  C= 3 \nHERE\nNOT_HERE\nD=\n")
    assert spec("-e", "A=2", "--env-file", str(path)).env == ["A=1", "C= 3 ", "HERE=yes", "D=", "A=2"]


def test_labels_come_from_files_and_flags(tmp_path: Path) -> None:
    """A label of the command line wins over one of a file."""
    (tmp_path / "labels").write_text("a=1\nb=2\nc\n")
    assert spec("-l", "a=3", "--label-file", str(tmp_path / "labels")).labels == {"a": "3", "b": "2", "c": ""}


def test_filter_of_system_calls_is_read_here(tmp_path: Path) -> None:
    """The file is the command's, so the profile itself travels."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    (tmp_path / "p.json").write_text(json.dumps(profile, indent=4))
    assert json.loads(spec("--security-opt", f"seccomp={tmp_path}/p.json").security.seccomp) == profile


def test_selinux_label_is_left_out_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts that set labels for another distribution go on working, and their user is told."""
    assert spec("--security-opt", "label=disable").security == ContainerSpec().security
    assert capsys.readouterr().err.startswith("warning: --security-opt label=disable: ")


BAD = {
    "--volume": ["", ":", "a:", "::", "data:/d:ro:x", "data:d", "data:/", "/srv:/x/..", "-x:/d", "a b:/d", "data:/d:rx",
        "data:/d:ro,rw", "data:/d:rshared", "/srv:/d:nocopy", "/srv:/d:shared,slave", "d", "/a:ro", "../../x"],
    "--mount": ["", "type=bind", "dst=d", "dst=/", "type=cluster,dst=/d", "src=a/b,dst=/d", "dst=/d,target=/e",
        "type=bind,src=data,dst=/d", "type=bind,dst=/d", "type=tmpfs,src=a,dst=/d", "dst=/d,readonly=maybe",
        "dst=/d,tmpfs-size=1m", "type=tmpfs,dst=/d,tmpfs-size=x", "type=tmpfs,dst=/d,tmpfs-mode=9", "dst=/d,what=x",
        "type=bind,src=/a,dst=/d,bind-propagation=up", "dst=/d,volume-driver=nfs", "dst=/d,volume-opt=o=x", "dst",
        "type=bind,src=/a,dst=/d,volume-nocopy", '"dst=/d', "type=bind,src=/a,dst=/d,bind-recursive=writable"],
    "--tmpfs": ["", "d", "/", "/d:", "/d:what", "/d:size=x", "/d:mode=8", "/d:size=1m;x", "/d:lowerdir=/etc"],
    "--shm-size": ["", "x", "-1", "1e3", "1mm", "9999999999g", "\u0661m"],
    "--cap-add": ["", "NET-ADMIN", "A,B"],
    "--cap-drop": ["", "1"],
    "--security-opt": ["", "seccomp", "seccomp=", "seccomp=/none", "apparmor", "no-new-privileges=maybe", "what=x",
        "systempaths=all"],
    "--device": ["", "dev", "/dev/a:b", "/dev/a:rr", "/dev/a:/b:/c", "/dev/a:/b:x", "/dev/a:/b:r:w", "vendor.com/d=x"],
    "--device-cgroup-rule": ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 rwmx", "c 1:3 r "],
    "--device-read-bps": ["", "/dev/a", "a:1", "/dev/a:x", "/dev/a:-1"],
    "--device-write-bps": ["/dev/a:"],
    "--device-read-iops": ["/dev/a:1m"],
    "--device-write-iops": ["/dev/a:-1"],
    "--ulimit": ["", "nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-1:1", "what=1", "nofile=1:2:3", "nofile=-2"],
    "--sysctl": ["", "a", "=b"],
    "--memory": ["", "x", "1m", "-1", "12x", "1..5g"],
    "--memory-reservation": ["", "x"],
    "--memory-swap": ["128m", "-2", "x"],
    "--memory-swappiness": ["", "101", "-2", "x"],
    "--oom-score-adj": ["", "1001", "-1001", "x", "1.5"],
    "--cpus": ["", "-1", "x", "1e3", "0.0000000001", "inf", "nan"],
    "--cpu-shares": ["", "-1", "x", "262145"],
    "--cpu-period": ["", "999", "1000001", "x"],
    "--cpu-quota": ["", "999", "-2", "x"],
    "--cpuset-cpus": ["", "x", "1-", "1,,2", "-1"],
    "--cpuset-mems": ["", "x"],
    "--pids-limit": ["", "-2", "x", "9999999999"],
    "--blkio-weight": ["", "9", "1001", "-1", "x"],
    "--pid": ["", "container:web", "x"],
    "--ipc": ["", "shareable", "none"],
    "--uts": ["", "x"],
    "--cgroupns": ["", "x"],
    "--userns": ["", "private", "auto"],
    "--uidmap": ["", "0:1", "0:1:0", "a:1:1", "-1:0:1", "0:4294967295:1", "4294967294:0:2", "0:0:1:1"],
    "--gidmap": ["0:1:1"],
    "--annotation": ["", "a", "=b"],
    "--hook": ["", "prestart", "what=/bin/a", "prestart=", "prestart=bin/a", "prestart=,/bin/a", 'prestart="/bin/a'],
    "--env-file": ["", "/none", "/"],
    "--label-file": ["/none"],
}  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in BAD.items() for value in values])
def test_bad_value_is_refused_with_flag_and_value(flag: str, value: str) -> None:
    """What is not understood is never guessed: the error names the flag, the value, and what is wrong with it."""
    with pytest.raises(InvalidArgument) as caught:
        spec(f"{flag}={value}")
    assert caught.value.message.startswith(f"read {flag} {value!r}: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-v", "a:/d", "--tmpfs", "/d"), "--volume 'a:/d' is mounted at /d already"),
        (("--mount", "dst=/d", "--mount", "dst=/x/../d"), "mounted at /d already"),
        (("-m", "64m", "--memory-swap", "32m"), "less than --memory"),
        (("-m", "64m", "--memory-reservation", "65m"), "more than --memory"),
        (("--cpus", "1", "--cpu-quota", "1000"), "give one of them"),
        (("--userns", "host", "--uidmap", "0:0:1"), "asks for users of its own"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(arguments: tuple[str, ...], words: str) -> None:
    """Two flags that can't both hold are an error that names them."""
    with pytest.raises(InvalidArgument) as caught:
        spec(*arguments)
    assert words in f"{caught.value.message} {caught.value.next_step}"


@pytest.mark.parametrize("content", [b"A=1\nB C=2\n", b"=x\n", b"A=\xff\n", b"A=" + b"x" * (1 << 20)])
def test_bad_file_of_variables_is_refused(tmp_path: Path, content: bytes) -> None:
    """A line without a usable name, other bytes than UTF-8, and a file that is too large are no variables."""
    (tmp_path / "env").write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"^read --env-file "):
        spec("--env-file", str(tmp_path / "env"))


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[" * 100_000])
def test_file_that_is_no_filter_of_system_calls_is_refused(tmp_path: Path, content: str) -> None:
    """A broken profile is found before anything is asked for."""
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InvalidArgument, match=r"^read --security-opt "):
        spec("--security-opt", f"seccomp={tmp_path}/p.json")


@given(st.integers(0, 1 << 50), st.sampled_from(["", "b", "B", "k", "Kb", "KiB", "m", "g", " m"]))
def test_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    """Units count by 1024, whatever their case; bytes are the unit of a bare number."""
    factor = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit.strip().lower()[:1]]
    if number * factor < 1 << 63:
        assert flag_values.size_bytes("--memory", f"{number}{unit}") == number * factor


@given(st.text(max_size=12))
def test_any_text_is_a_mount_or_a_refusal(text: str) -> None:
    """Whatever is written after the flag, nothing but a mount with an absolute target or an InvalidArgument comes of it."""
    for flag in ("--volume", "--mount", "--tmpfs"):
        try:
            (wish,) = spec(f"{flag}={text}").mounts
        except InvalidArgument:
            continue
        assert wish.target.startswith("/") and ".." not in wish.target.split("/") and wish.target != "/"
