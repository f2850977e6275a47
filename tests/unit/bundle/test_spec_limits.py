"""Limits of a container's cgroup and processes: what is asked for is there or is refused, never left out in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hythe.errors import FailedPrecondition, HytheError, InvalidArgument, NotFound
from hythe_bundle import resources, rlimits
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.wishes import IoLimit, ResourceWishes, RlimitWish
from tests.fixtures.specs import FOUND, HOST, make

GIB = 1 << 30


def limits(host: HostFacts = HOST, **each: Any) -> dict[str, Any]:
    """Return the resources of a container with these wishes."""
    return resources.make(ResourceWishes(**each), host, FOUND)


def test_container_without_wishes_has_no_limits_of_its_own() -> None:
    """It stays as the cgroup inherits it; no file is written."""
    assert limits() == {}


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"memory_bytes": GIB}, {"memory": {"limit": GIB}}),
        ({"memory_reservation_bytes": GIB}, {"memory": {"reservation": GIB}}),
        ({"memory_bytes": GIB, "memory_swap_bytes": GIB}, {"memory": {"limit": GIB, "swap": GIB}}),
        ({"memory_bytes": GIB, "memory_swap_bytes": -1}, {"memory": {"limit": GIB, "swap": -1}}),
        ({"memory_swappiness": 0}, {"memory": {"swappiness": 0}}),
        ({"memory_bytes": GIB, "oom_kill_disable": True}, {"memory": {"limit": GIB, "disableOOMKiller": True}}),
        ({"cpus": 1.5}, {"cpu": {"period": 100_000, "quota": 150_000}}),
        ({"cpus": 0.333}, {"cpu": {"period": 100_000, "quota": 33_300}}),
        ({"cpu_period_us": 50_000, "cpu_quota_us": 1000}, {"cpu": {"period": 50_000, "quota": 1000}}),
        ({"cpu_quota_us": -1}, {"cpu": {"quota": -1}}),
        ({"cpu_shares": 512}, {"cpu": {"shares": 512}}),
        ({"cpuset_cpus": "0-2,3", "cpuset_mems": "0"}, {"cpu": {"cpus": "0-2,3", "mems": "0"}}),
        ({"pids": 5}, {"pids": {"limit": 5}}),
        ({"pids": -1}, {"pids": {"limit": -1}}),
        ({"io_weight": 500}, {"blockIO": {"weight": 500}}),
        (
            {"io": (IoLimit("/dev/disk", read_bytes_s=5, write_ops_s=7),)},
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
                }
            },
        ),
    ],
)
def test_limit_is_what_was_asked_for(wishes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each limit stands where runtimes look for it, in their unit."""
    assert limits(**wishes) == expected


@pytest.mark.parametrize(
    "wishes",
    [
        {"memory_bytes": 1},
        {"memory_bytes": (6 << 20) - 1},
        {"memory_bytes": GIB, "memory_reservation_bytes": GIB + 1},
        {"memory_swap_bytes": GIB},
        {"memory_bytes": GIB, "memory_swap_bytes": GIB - 1},
        {"oom_kill_disable": True},
        {"cpus": 0.001},
        {"cpus": 4.01},
        {"cpus": float("inf")},
        {"cpus": float("nan")},
        {"cpus": 1, "cpu_quota_us": 5000},
        {"cpus": 1, "cpu_period_us": 5000},
        {"cpu_period_us": 999},
        {"cpu_period_us": 1_000_001},
        {"cpu_quota_us": 999},
        {"cpu_quota_us": -2},
        {"cpu_shares": 1},
        {"cpu_shares": 262_145},
        {"cpuset_cpus": "4"},
        {"cpuset_cpus": "0-99999"},
        {"cpuset_cpus": "2-1"},
        {"cpuset_cpus": "0,"},
        {"cpuset_cpus": "a"},
        {"cpuset_cpus": "\uff10"},
        {"cpuset_mems": "0\n"},
        {"io_weight": 9},
        {"io_weight": 1001},
        {"io": (IoLimit("disk", 1),)},
        {"io": (IoLimit("/dev/fuse", 1),)},
        {"io": (IoLimit("/dev/part", 1),)},
        {"io": (IoLimit("/dev", 1),)},
        {"io": (IoLimit("/dev/disk", 1), IoLimit("/dev/disk", 2))},
    ],
)
def test_limit_that_no_cgroup_takes_is_refused(wishes: dict[str, Any]) -> None:
    """A number out of range, or two wishes that contradict each other, is said before anything is made."""
    with pytest.raises(InvalidArgument, match="set limit"):
        limits(**wishes)


@pytest.mark.parametrize(
    ("wishes", "host"),
    [
        ({"memory_swappiness": 5}, replace(HOST, cgroup_version=2)),
        ({"memory_bytes": GIB, "oom_kill_disable": True}, replace(HOST, cgroup_version=2)),
        ({"memory_bytes": GIB, "memory_swap_bytes": GIB}, replace(HOST, swap_limits=False)),
    ],
)
def test_limit_that_this_host_has_not_is_said(wishes: dict[str, Any], host: HostFacts) -> None:
    """A limit that would be left out in silence is an error, with what to do."""
    with pytest.raises(FailedPrecondition, match="set limit") as raised:
        limits(host, **wishes)
    assert raised.value.outcome == "not started" and raised.value.next_step


def test_host_without_weights_or_disk_says_so() -> None:
    """Weights need a scheduler that knows them, rates a disk that is there."""
    with pytest.raises(FailedPrecondition, match="weight"):
        resources.make(ResourceWishes(io_weight=10), HOST, replace(FOUND, io_weight=False))
    with pytest.raises(NotFound, match="/dev/none"):
        limits(io=(IoLimit("/dev/none", 1),))


def test_swap_without_limit_needs_no_accounting() -> None:
    """Where swap isn't counted there is nothing to take off."""
    found = limits(replace(HOST, swap_limits=False), memory_bytes=GIB, memory_swap_bytes=-1)
    assert found == {"memory": {"limit": GIB}}


def test_limits_of_processes_are_set_by_name() -> None:
    """Names as in ulimit(1), with or without their prefix; -1 is none."""
    wishes = (RlimitWish("nofile", 10, 20), RlimitWish("RLIMIT_CORE", 0, -1), RlimitWish("memlock", -1, -1))
    assert make(rlimits=wishes)["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": rlimits.UNLIMITED},
        {"type": "RLIMIT_MEMLOCK", "soft": rlimits.UNLIMITED, "hard": rlimits.UNLIMITED},
    ]


@pytest.mark.parametrize(
    "wishes",
    [
        (RlimitWish("files", 1, 1),),
        (RlimitWish("", 1, 1),),
        (RlimitWish("nofile", 2, 1),),
        (RlimitWish("core", -1, 5),),
        (RlimitWish("core", -2, -2),),
        (RlimitWish("core", 0, 1 << 64),),
        (RlimitWish("core", 0, 1), RlimitWish("RLIMIT_CORE", 0, 1)),
    ],
)
def test_limit_of_processes_that_is_none_is_refused(wishes: tuple[RlimitWish, ...]) -> None:
    """An unknown name, a soft limit above the hard one, a number out of range, or one name twice."""
    with pytest.raises(InvalidArgument, match="set limit"):
        make(rlimits=wishes)


def test_limit_above_the_hosts_is_said_before_the_start() -> None:
    """Without CAP_SYS_RESOURCE no runtime can raise a hard limit; nobody can raise nofile above fs.nr_open."""
    bound = replace(HOST, may_raise_limits=False, limits={"nofile": 20_000, "memlock": 8 << 20})
    assert make(rlimits=(RlimitWish("nofile", 1, 20_000), RlimitWish("core", -1, -1)), host=bound)
    for wish, host in (
        (RlimitWish("nofile", 1, 20_001), bound),
        (RlimitWish("memlock", -1, -1), bound),
        (RlimitWish("nofile", -1, -1), HOST),
    ):
        with pytest.raises(FailedPrecondition, match="the most that can be had") as raised:
            make(rlimits=(wish,), host=host)
        assert raised.value.next_step.startswith("ask for at most")


def test_oom_score_is_what_the_host_allows() -> None:
    """Going below the host's own score needs CAP_SYS_RESOURCE."""
    assert make(oom_score_adj=-500)["process"]["oomScoreAdj"] == -500
    assert "oomScoreAdj" not in make()["process"]
    bound = replace(HOST, may_raise_limits=False)
    assert make(oom_score_adj=0, host=bound)["process"]["oomScoreAdj"] == 0
    failures: list[tuple[int, HostFacts, type[HytheError]]] = [
        (-1, bound, FailedPrecondition),
        (1001, HOST, InvalidArgument),
    ]
    for score, host, error in failures:
        with pytest.raises(error, match="OOM score"):
            make(oom_score_adj=score, host=host)
