"""The OCI spec: safe defaults for every container, and nothing shared between two."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest

from hythe.errors import InvalidArgument, Unimplemented
from hythe_bundle import capabilities, seccomp
from tests.fixtures.specs import make


def test_container_has_few_capabilities_and_none_to_inherit() -> None:
    """The 14 usual capabilities, an empty inheritable set (CVE-2022-24769) and an empty ambient one."""
    found = make()["process"]["capabilities"]
    assert len(found["bounding"]) == 14 and found["bounding"] == found["effective"] == found["permitted"]
    assert found["inheritable"] == found["ambient"] == [] and "CAP_SYS_ADMIN" not in found["bounding"]


def test_primary_group_is_among_the_additional_ones() -> None:
    """Leaving the primary group wins no access (CVE-2023-25173)."""
    assert make()["process"]["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001, 5]}


def test_what_tells_of_the_host_is_masked() -> None:
    """Kernel memory, keys, firmware and the processor's power meter can't be read; switches can't be set."""
    linux = make()["linux"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware", "/sys/devices/virtual/powercap"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])
    mounts = {mount["destination"]: mount for mount in make()["mounts"]}
    assert all("ro" in mounts[path]["options"] for path in ("/sys", "/sys/fs/cgroup", "/etc/hosts"))
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_network_is_one_s_own_or_the_hosts() -> None:
    """Without a wish the container has a network namespace of its own; with ``host`` it has none."""
    assert "network" in {namespace["type"] for namespace in make()["linux"]["namespaces"]}
    assert "network" not in {namespace["type"] for namespace in make(network="host")["linux"]["namespaces"]}
    for namespaces in (make()["linux"]["namespaces"], make(network="host")["linux"]["namespaces"]):
        assert {"pid", "ipc", "uts", "mount", "cgroup"} <= {namespace["type"] for namespace in namespaces}
        assert all("path" not in namespace for namespace in namespaces)


def test_wishes_reach_their_places() -> None:
    """Arguments, environment, directory, host name and read-only root are where the runtime looks for them."""
    found = make(args=("a", "b"), env=("X=1",), cwd="/srv", hostname="web", read_only=True)
    assert found["process"]["args"] == ["a", "b"] and found["process"]["cwd"] == "/srv"
    assert "X=1" in found["process"]["env"] and "HOSTNAME=web" in found["process"]["env"]
    assert found["hostname"] == "web" and found["root"] == {"path": "rootfs", "readonly": True}
    assert found["linux"]["cgroupsPath"] == "/hythe/h/ctr/x"
    assert "rlimits" not in found["process"] and "hooks" not in found


@pytest.mark.parametrize("path", ["", "/", "../x", "a/../../b", "a//b", "./a"])
def test_cgroup_outside_the_hierarchy_is_refused(path: str) -> None:
    """A cgroup path names a cgroup and no way out."""
    with pytest.raises(InvalidArgument):
        make(cgroup_path=path)


def test_two_specs_share_nothing_that_changes() -> None:
    """What one container adds to its environment is never another's (CVE-2021-21334)."""
    first = make()
    first["process"]["env"].append("SECRET=1")
    first["mounts"].clear()
    first["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    second = make()
    assert "SECRET=1" not in second["process"]["env"] and len(second["mounts"]) == 8
    assert len(second["process"]["capabilities"]["bounding"]) == 14


def names(profile: dict[str, Any]) -> set[str]:
    """Return the system calls that a profile allows without a condition."""
    return set(profile["syscalls"][0]["names"])


def test_filter_lets_through_what_programs_need_and_no_more() -> None:
    """Ordinary calls pass; those that reach beyond the container don't; clone makes no namespaces."""
    found = seccomp.profile("amd64", with_32_bit=False, capabilities=capabilities.DEFAULT)
    assert {"execve", "openat", "futex", "epoll_wait", "arch_prctl", "chroot"} <= names(found)
    forbidden = {"mount", "setns", "unshare", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "kexec_load", "clone"}
    assert not forbidden & names(found) and found["defaultAction"] == "SCMP_ACT_ERRNO"
    rules = {rule["names"][0]: rule for rule in found["syscalls"][1:]}
    assert rules["clone"]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ" and rules["clone3"]["errnoRet"] == 38


def test_32_bit_calls_are_covered_only_where_needed() -> None:
    """Covering the 32-bit twin costs time at each start, so it is left out for images without such programs."""
    assert seccomp.profile("amd64", with_32_bit=False, capabilities=capabilities.DEFAULT)["architectures"] == [
        "SCMP_ARCH_X86_64"
    ]
    both = seccomp.profile("amd64", with_32_bit=True, capabilities=capabilities.DEFAULT)
    assert both["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] and "socketcall" in names(both)
    assert make(with_32_bit=True)["linux"]["seccomp"] == both
    with pytest.raises(Unimplemented):
        seccomp.profile("vax", with_32_bit=False, capabilities=capabilities.DEFAULT)


@pytest.mark.parametrize(("architecture", "token"), [("amd64", 0xC000003E), ("arm64", 0xC00000B7)])
def test_every_name_is_a_system_call_of_its_processor(architecture: str, token: int) -> None:
    """No name is misspelt: libseccomp, which runc uses, knows each on the processor that it is listed for."""
    library = ctypes.CDLL("libseccomp.so.2")
    lists = json.loads((Path(seccomp.__file__).parent / "seccomp.json").read_text())
    resolve = library.seccomp_syscall_resolve_name_arch
    assert [n for n in (*lists["everywhere"], *lists[architecture]) if resolve(token, n.encode()) < 0] == []
