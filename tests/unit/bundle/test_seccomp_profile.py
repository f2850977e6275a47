"""Seccomp profiles of users: both forms that there are, conditions resolved, and nothing let through that is no profile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hythe.errors import InvalidArgument
from hythe_bundle import seccomp_profile
from hythe_bundle.wishes import SecurityWishes
from tests.fixtures.specs import make


def resolve(profile: dict[str, Any], *own: str, architecture: str = "amd64", kernel: tuple[int, int] = (6, 1)) -> Any:
    """Return a profile resolved for one container."""
    return seccomp_profile.resolve(json.dumps({"defaultAction": "SCMP_ACT_ERRNO"} | profile), architecture, own, kernel)


@pytest.mark.parametrize(
    ("conditions", "own", "holds"),
    [
        ({}, (), True),
        ({"includes": {"caps": ["CAP_BPF"]}}, (), False),
        ({"includes": {"caps": ["CAP_BPF"]}}, ("CAP_BPF",), True),
        ({"includes": {"caps": ["CAP_BPF", "CAP_CHOWN"]}}, ("CAP_BPF",), False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, ("CAP_BPF",), False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, (), True),
        ({"includes": {"arches": ["arm64"]}}, (), False),
        ({"includes": {"arches": ["amd64", "arm64"]}}, (), True),
        ({"excludes": {"arches": ["amd64"]}}, (), False),
        ({"includes": {"minKernel": "4.8"}}, (), True),
        ({"includes": {"minKernel": "6.10-rc1"}}, (), False),
        ({"excludes": {"minKernel": "4.8"}}, (), False),
        ({"includes": None, "excludes": {}, "comment": "x"}, (), True),
    ],
)
def test_conditions_of_a_profile_are_resolved(conditions: dict[str, Any], own: tuple[str, ...], holds: bool) -> None:
    """Moby's conditions on capabilities, processor and kernel decide which rules there are; none is left for the runtime."""
    rule = {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", **conditions}
    expected = [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW"}] if holds else []
    assert resolve({"syscalls": [rule]}, *own)["syscalls"] == expected


def test_forms_of_a_profile_are_understood() -> None:
    """Names one by one, errors by name or number, arguments, and processors listed or in moby's table."""
    table = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    argument = {"index": 0, "value": 2**64 - 1, "op": "SCMP_CMP_EQ"}
    rule = {"name": "bpf", "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "args": [argument]}
    found = resolve({"archMap": table, "syscalls": [rule], "defaultErrno": "EPERM", "defaultErrnoRet": 1})
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] and found["defaultErrnoRet"] == 1
    assert found["syscalls"] == [
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [argument | {"valueTwo": 0}]}
    ]
    assert "architectures" not in resolve({"archMap": table}, architecture="arm64")
    assert resolve({"architectures": ["SCMP_ARCH_ARM"]})["architectures"] == ["SCMP_ARCH_ARM"]


@pytest.mark.parametrize(
    "text",
    [
        *("nothing", "[]", "{}", "[" * 100_000, '{"defaultAction":"ALLOW"}', " " * (seccomp_profile.MAX_BYTES + 1)),
        *('{"defaultAction":"SCMP_ACT_NOTIFY"}', '{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":-1}'),
        '{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/x.sock"}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscals":[]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":{}}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a b"],"action":"SCMP_ACT_ALLOW"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_NOTIFY"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","errno":"EX"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","errno":"EIO","errnoRet":1}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"cap":["x"]}}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":true,"op":"SCMP_CMP_EQ"}]}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","architectures":["VAX"]}',
        '{"defaultAction":"SCMP_ACT_ERRNO","flags":["NONE"]}',
    ],
)
def test_profile_that_is_none_is_refused(text: str) -> None:
    """A profile of another shape, with an unknown field, or one that asks a program of the host, is no filter."""
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        make(security=SecurityWishes(seccomp=text))
