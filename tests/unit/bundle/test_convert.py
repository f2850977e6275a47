"""A request's message becomes wishes, field by field."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from hythe.wire.container import ContainerSpec
from hythe_bundle.convert import wishes_of
from hythe_bundle.wishes import Wishes

NOT_FOR_THE_SPEC = {"directory", "stdin", "auto_remove", "labels", "stop_timeout_s"}
FULL = {
    "args": ["a"],
    "entrypoint": ["e"],
    "env": ["A=1"],
    "cwd": "/c",
    "user": "u",
    "groups": ["g"],
    "hostname": "h",
    "domainname": "d",
    "network": "host",
    "read_only": True,
    "mounts": [
        {
            "type": "bind",
            "target": "/t",
            "source": "/s",
            "read_only": True,
            "create": True,
            "no_copy": True,
            "propagation": "rslave",
            "options": ["noexec"],
        }
    ],
    "shm_bytes": 1,
    "devices": [{"source": "/dev/s", "target": "/dev/t", "permissions": "r"}],
    "rlimits": [{"name": "nofile", "soft": 1, "hard": 2}],
    "resources": {
        "memory_bytes": 1,
        "memory_reservation_bytes": 2,
        "memory_swap_bytes": 3,
        "memory_swappiness": 4,
        "oom_kill_disable": True,
        "cpus": 0.5,
        "cpu_shares": 6,
        "cpu_period_us": 7,
        "cpu_quota_us": 8,
        "cpuset_cpus": "9",
        "cpuset_mems": "10",
        "pids": 11,
        "io_weight": 12,
        "io": [{"path": "/dev/x", "read_bytes_s": 1, "write_bytes_s": 2, "read_ops_s": 3, "write_ops_s": 4}],
        "device_rules": ["a"],
    },
    "namespaces": {
        "pid": "host",
        "ipc": "host",
        "uts": "host",
        "cgroup": "host",
        "user_ids": [{"container_id": 1, "host_id": 2, "size": 3}],
        "group_ids": [{"container_id": 4, "host_id": 5, "size": 6}],
    },
    "security": {
        "privileged": True,
        "cap_add": ["A"],
        "cap_drop": ["B"],
        "no_new_privileges": True,
        "seccomp": "s",
        "apparmor": "a",
        "unmask": True,
    },
    "sysctls": {"net.x": "1"},
    "oom_score_adj": 5,
    "hooks": [{"stage": "poststop", "path": "/p", "args": ["p"], "env": ["E=1"], "timeout_s": 2}],
    "annotations": {"k": "v"},
    "stop_signal": "SIGINT",
}


def listed(value: Any) -> Any:
    """Return wishes with lists where they have tuples, as messages have them."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def test_every_field_is_taken_over() -> None:
    """What the message says is what the wishes say, to the last field, and no field of the message is forgotten."""
    assert listed(asdict(wishes_of(ContainerSpec.model_validate(FULL)))) == FULL
    assert set(FULL) | NOT_FOR_THE_SPEC == set(ContainerSpec.model_fields)
    assert set(FULL) == {field.name for field in fields(Wishes)}


def test_message_without_wishes_is_the_default() -> None:
    """A record of before there were these fields, with none of them, means what it meant."""
    assert wishes_of(ContainerSpec.model_validate({"args": ["sh"]})) == Wishes(args=("sh",))
