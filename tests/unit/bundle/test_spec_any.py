"""Whatever is asked for makes a spec that keeps OCI's schema, or an error in our words: generated requests."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hythe.errors import HytheError
from hythe.wire import container as wire
from hythe_bundle.convert import wishes_of
from hythe_bundle.users import User
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
from tests.fixtures.schemas import faults
from tests.fixtures.specs import FOUND, make

WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                "/",
                "/srv",
                "/data",
                "/dev",
                "/dev/fuse",
                "/dev/disk",
                "/proc/x",
                "/sys/firmware",
                "../x",
                "/a/../b",
            ),
            *(
                "ALL",
                "sys_admin",
                "CAP_MKNOD",
                "nofile",
                "core",
                "host",
                "ro",
                "size=1m",
                "exec",
                "rshared",
                "c 1:3 rwm",
            ),
            *("net.core.somaxconn", "kernel.sem", "kernel.panic", "A=1", "A", "0-3", "unconfined", "\0"),
        ]
    ),
    st.text(max_size=8),
)
IDS = st.builds(
    wire.IdRange,
    container_id=st.integers(0, 70_000),
    host_id=st.integers(0, 2**33),
    size=st.integers(1, 70_000),
)
NUMBERS = st.one_of(st.integers(0, 1 << 66), st.sampled_from([0, 1, 1000, 100_000, 6 << 20, 1 << 30]))
SPECS = st.builds(
    wire.ContainerSpec,
    args=st.lists(WORDS, max_size=2),
    env=st.lists(WORDS, max_size=2),
    cwd=st.one_of(st.just(""), WORDS),
    hostname=st.one_of(st.just(""), WORDS),
    domainname=st.one_of(st.just(""), WORDS),
    network=st.sampled_from(["none", "host"]),
    read_only=st.booleans(),
    mounts=st.lists(
        st.builds(
            wire.MountWish,
            type=st.sampled_from(["bind", "tmpfs", "volume"]),
            target=WORDS,
            source=WORDS,
            read_only=st.booleans(),
            options=st.lists(WORDS, max_size=2),
        ),
        max_size=2,
    ),
    shm_bytes=NUMBERS,
    devices=st.lists(st.builds(wire.DeviceWish, source=WORDS, target=WORDS, permissions=WORDS), max_size=1),
    rlimits=st.lists(
        st.builds(wire.RlimitWish, name=WORDS, soft=st.integers(-2, 1 << 65), hard=st.integers(-2, 1 << 65)), max_size=2
    ),
    resources=st.builds(
        wire.ResourceWishes,
        memory_bytes=NUMBERS,
        memory_swap_bytes=st.integers(-1, 1 << 40),
        cpus=st.floats(0, 8),
        cpu_shares=NUMBERS,
        cpuset_cpus=WORDS,
        pids=st.integers(-1, 1 << 40),
        io_weight=st.integers(0, 1000),
        io=st.lists(st.builds(wire.IoLimit, path=WORDS, read_bytes_s=NUMBERS), max_size=1),
        device_rules=st.lists(WORDS, max_size=1),
    ),
    namespaces=st.builds(
        wire.NamespaceWishes,
        pid=st.sampled_from(["private", "host"]),
        ipc=st.sampled_from(["private", "host"]),
        uts=st.sampled_from(["private", "host"]),
        user_ids=st.lists(IDS, max_size=1),
    ),
    security=st.builds(
        wire.SecurityWishes,
        privileged=st.booleans(),
        cap_add=st.lists(WORDS, max_size=1),
        cap_drop=st.lists(WORDS, max_size=1),
        seccomp=st.one_of(st.just(""), WORDS, st.just('{"defaultAction":"SCMP_ACT_LOG","syscalls":[]}')),
        apparmor=st.one_of(st.just(""), WORDS),
    ),
    sysctls=st.dictionaries(WORDS, WORDS, max_size=1),
    hooks=st.lists(
        st.builds(wire.HookWish, stage=st.sampled_from(["poststart", "poststop"]), path=WORDS, env=st.lists(WORDS)),
        max_size=1,
    ),
    annotations=st.dictionaries(WORDS, WORDS, max_size=2),
)


@given(SPECS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_whatever_is_asked_for_makes_a_valid_spec_or_an_error_of_ours(asked: wire.ContainerSpec) -> None:
    """No request, however odd, makes a spec that breaks the schema, inherits capabilities, or fails in another way."""
    try:
        made = make(wishes_of(asked), found=FOUND, user=User(0, 0, (0,)))
    except HytheError as error:
        assert error.code in ("InvalidArgument", "FailedPrecondition", "NotFound") and error.message
        return
    check(made)


def few(*values: Any, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return a strategy for some of `values`, none twice."""
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


MAPS = st.builds(IdRange, st.just(0), st.integers(0, 1 << 31), st.integers(65_536, 1 << 20)).map(lambda one: (one,))
POSSIBLE = st.builds(
    Wishes,
    args=st.just(("sh",)),
    env=few("A=1", "B", "PATH=/bin", "A=ü"),
    cwd=st.sampled_from(["", "/", "/srv", "//x/../y"]),
    hostname=st.sampled_from(["", "web", "a.b-c"]),
    network=st.sampled_from(["none", "host"]),
    read_only=st.booleans(),
    mounts=few(
        MountWish("bind", "/data", "/srv", read_only=True),
        MountWish("bind", "/data/deep", "/shared", propagation="rshared", options=("bind",)),
        MountWish("bind", "/dev", "/srv"),
        MountWish("tmpfs", "/t", options=("size=1m", "exec", "ro")),
        MountWish("tmpfs", "/etc/hosts"),
        MountWish("bind", "/sys/fs/cgroup", "/slave", propagation="slave"),
    ),
    shm_bytes=st.integers(0, 1 << 40),
    devices=few(DeviceWish("/dev/fuse"), DeviceWish("/dev/net", "/dev/own", "r"), DeviceWish("/dev", "/mnt/dev")),
    rlimits=few(RlimitWish("nofile", 0, 1024), RlimitWish("core", -1, -1), RlimitWish("RLIMIT_NPROC", 1, 1)),
    resources=st.builds(
        ResourceWishes,
        memory_bytes=st.just(0) | st.integers(6 << 20, 1 << 50),
        cpus=st.just(0.0) | st.floats(0.01, 4),
        cpu_shares=st.just(0) | st.integers(2, 262_144),
        cpuset_cpus=st.sampled_from(["", "0", "0-3", "1,3"]),
        pids=st.integers(-1, 1 << 30),
        io_weight=st.just(0) | st.integers(10, 1000),
        io=few(IoLimit("/dev/disk", 1, 0, 3)),
        device_rules=few("a", "c *:* m", "b 8:0 rw"),
    ),
    namespaces=st.builds(
        NamespaceWishes,
        ipc=st.sampled_from(["private", "host"]),
        cgroup=st.sampled_from(["private", "host"]),
        user_ids=st.just(()) | MAPS,
    ),
    security=st.builds(
        SecurityWishes,
        cap_add=few("ALL", "sys_admin", "CAP_BPF", "SYS_PTRACE"),
        cap_drop=few("ALL", "mknod"),
        no_new_privileges=st.booleans(),
        seccomp=st.sampled_from(["", "unconfined", '{"defaultAction":"SCMP_ACT_LOG","syscalls":[]}']),
        unmask=st.booleans(),
    ),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
    hooks=few(HookWish("poststop", "/bin/true"), HookWish("createRuntime", "/x", ("y",), ("A=1",), 3)),
    annotations=st.dictionaries(
        st.text("abc", min_size=1), st.text(st.characters(exclude_characters="\0")), max_size=2
    ),
)


@given(POSSIBLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_wishes_in_any_combination_make_a_valid_spec(wishes: Wishes) -> None:
    """What each can be fulfilled alone can be fulfilled together, and the spec keeps the schema; but for what excludes others."""
    try:
        made = make(wishes)
    except HytheError as error:
        own_ids = bool(wishes.namespaces.user_ids)
        assert own_ids and any(wish.source != (wish.target or wish.source) for wish in wishes.devices), error.message
        return
    check(made)


def check(made: dict[str, Any]) -> None:
    """Assert what is so of every spec."""
    assert faults(made, "runtime-spec", "config-schema.json") == []
    assert made["process"]["capabilities"]["inheritable"] == made["process"]["capabilities"]["ambient"] == []
    targets = [mount["destination"] for mount in made["mounts"]]
    assert len(targets) == len(set(targets))
    assert [target.count("/") for target in targets] == sorted(target.count("/") for target in targets)
