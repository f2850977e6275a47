"""Specs keep OCI's own schema: the default, every option at once, and each kind of container."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hythe_bundle.volumes import ResolvedMount
from hythe_bundle.wishes import (
    DeviceWish,
    HookWish,
    IdRange,
    IoLimit,
    MountWish,
    NamespaceWishes,
    ResourceWishes,
    RlimitWish,
    SecurityWishes,
    Wishes,
)
from scripts.lab.images import busybox, index
from tests.fixtures.schemas import faults
from tests.fixtures.specs import HOST, make

EVERYTHING = Wishes(
    args=("sh", "-c", "true"),
    env=("A=1",),
    cwd="/srv",
    user="1000",
    groups=("5",),
    hostname="web",
    domainname="lab.test",
    read_only=True,
    mounts=(
        MountWish("bind", "/data", "/srv", read_only=True, options=("nosuid",)),
        MountWish("bind", "/shared", "/shared", propagation="rshared"),
        MountWish("tmpfs", "/t", options=("size=1m", "exec")),
        MountWish("volume", "/v", "name"),
    ),
    shm_bytes=1 << 20,
    devices=(DeviceWish("/dev/fuse", "/dev/own", "rw"), DeviceWish("/dev/net")),
    rlimits=(RlimitWish("memlock", 10, -1), RlimitWish("core", -1, -1)),
    resources=ResourceWishes(
        memory_bytes=1 << 30,
        memory_reservation_bytes=1 << 29,
        memory_swap_bytes=-1,
        memory_swappiness=0,
        oom_kill_disable=True,
        cpu_shares=2,
        cpu_period_us=1000,
        cpu_quota_us=-1,
        cpuset_cpus="0-1,3",
        cpuset_mems="0",
        pids=-1,
        io_weight=10,
        io=(IoLimit("/dev/disk", 1, 2, 3, 4),),
        device_rules=("c 1:3 rwm", "b 7:* r", "a"),
    ),
    security=SecurityWishes(cap_add=("ALL",), cap_drop=("mknod",), no_new_privileges=True),
    sysctls={"net.core.somaxconn": "10", "kernel.sem": "1 2 3 4"},
    oom_score_adj=-1000,
    hooks=(HookWish("poststop", "/bin/true", ("true",), ("A=1",), 1), HookWish("prestart", "/bin/true")),
    annotations={"a": "b"},
    stop_signal="SIGINT",
)
VOLUMES = (ResolvedMount("bind", "/volumes/name", "/v"), ResolvedMount("tmpfs", "", "/w", ("size=1k",)))


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(),
        EVERYTHING,
        Wishes(security=SecurityWishes(privileged=True)),
        Wishes(security=SecurityWishes(seccomp="unconfined", apparmor="unconfined", unmask=True)),
        Wishes(security=SecurityWishes(seccomp='{"defaultAction":"SCMP_ACT_ALLOW"}', cap_drop=("ALL",))),
        Wishes(namespaces=NamespaceWishes(user_ids=(IdRange(0, 100_000, 65_536),)), network="host"),
        Wishes(namespaces=NamespaceWishes(pid="host", ipc="host", uts="host", cgroup="host")),
        Wishes(resources=ResourceWishes(cpus=1.5)),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_spec_keeps_the_schema(wishes: Wishes, version: Any) -> None:
    """The default, every option at once, a privileged container, shared and user namespaces, on both kinds of cgroups."""
    host = replace(HOST, cgroup_version=version, apparmor=frozenset({"hythe-default"}))
    if version == 2:
        plain = replace(wishes.resources, memory_swappiness=None, oom_kill_disable=False)
        wishes = replace(wishes, resources=plain)
    made = make(wishes, host=host, volumes=VOLUMES, with_32_bit=True, trace={"traceparent": "00-1-2-01"})
    assert faults(made, "runtime-spec", "config-schema.json") == []
    assert json.loads(json.dumps(made)) == made


def test_schema_is_really_asked() -> None:
    """A spec with a mistake deep inside is found out: the schema's references are followed."""
    made = make()
    made["linux"]["namespaces"].append({"type": "none"})
    made["process"]["rlimits"] = [{"type": "NOFILE", "soft": 1, "hard": 1}]
    found = faults(made, "runtime-spec", "config-schema.json")
    assert len(found) == 2 and any("rlimits" in fault for fault in found)


def test_images_of_the_lab_keep_the_schema() -> None:
    """What tests unpack and run is what OCI says images are."""
    image = busybox().build()
    documents = (
        (image.manifest, "image-manifest-schema.json"),
        (image.config, "config-schema.json"),
        (index([image]).root, "image-index-schema.json"),
    )
    for blob, schema in documents:
        assert faults(json.loads(blob.data), "image-spec", schema) == []
