"""Namespaces of one's own or the host's, ids of users, and kernel settings that go with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hythe.errors import InvalidArgument
from hythe_bundle.namespaces import MOST_RANGES
from hythe_bundle.users import User
from hythe_bundle.wishes import IdRange, NamespaceWishes, SecurityWishes, Wishes
from tests.fixtures.specs import HOST, make

OWN = NamespaceWishes(user_ids=(IdRange(0, 100_000, 65_536),))
ROOT = User(0, 0, (0,))


def kinds(**each: Any) -> set[str]:
    """Return the namespaces that a container has of its own."""
    return {namespace["type"] for namespace in make(**each)["linux"]["namespaces"]}


def test_namespace_of_the_host_is_not_made() -> None:
    """All but the user's are a container's own, and each can be the host's but the one of mounts."""
    every = {"pid", "ipc", "uts", "mount", "cgroup", "network"}
    assert kinds() == every
    shared = {
        "pid": NamespaceWishes(pid="host"),
        "ipc": NamespaceWishes(ipc="host"),
        "uts": NamespaceWishes(uts="host"),
        "cgroup": NamespaceWishes(cgroup="host"),
    }
    for name, wishes in shared.items():
        assert kinds(namespaces=wishes) == every - {name}
    assert kinds(network="host") == every - {"network"} and kinds(namespaces=OWN) == every | {"user"}


def test_name_of_the_host_is_kept_where_it_is_shared() -> None:
    """A container that shares the host's name has it, and can't set another."""
    shared = NamespaceWishes(uts="host")
    made = make(namespaces=shared)
    assert "hostname" not in made and f"HOSTNAME={HOST.name}" in made["process"]["env"]
    assert "hostname" not in make(namespaces=shared, hostname=HOST.name)
    with pytest.raises(InvalidArgument, match="shares"):
        make(namespaces=shared, hostname="web")
    with pytest.raises(InvalidArgument, match="shares"):
        make(namespaces=shared, domainname="lab.test")


def test_ids_are_mapped() -> None:
    """Users' and groups' ids have their ranges; groups' are the users' unless they are given."""
    linux = make(namespaces=OWN)["linux"]
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    other = replace(OWN, group_ids=(IdRange(0, 5, 1), IdRange(1, 7, 9000)))
    assert [each["hostID"] for each in make(namespaces=other)["linux"]["gidMappings"]] == [5, 7]
    assert "uidMappings" not in make()["linux"]


@pytest.mark.parametrize(
    "ids",
    [
        (IdRange(1, 100_000, 10),),
        (IdRange(0, 100_000, 10), IdRange(9, 200_000, 10)),
        (IdRange(0, 100_000, 10), IdRange(10, 100_009, 10)),
        (IdRange(0, 2**32 - 10, 20),),
        (IdRange(0, 2**32, 1),),
        (IdRange(0, 1, 0),),
        (IdRange(0, -1, 1),),
        tuple(IdRange(number, 1000 + 2 * number, 1) for number in range(MOST_RANGES + 1)),
    ],
)
def test_map_that_is_none_is_refused(ids: tuple[IdRange, ...]) -> None:
    """Ranges that overlap, leave the 32 bits, are empty, too many, or leave out root are no map."""
    with pytest.raises(InvalidArgument, match="map ids of"):
        make(namespaces=NamespaceWishes(user_ids=ids), user=ROOT)
    with pytest.raises(InvalidArgument, match="map ids of groups"):
        make(namespaces=replace(OWN, group_ids=ids), user=ROOT)


@pytest.mark.parametrize("user", [User(65_536, 0, (0,)), User(0, 70_000, (70_000,)), User(0, 0, (0, 65_536))])
def test_user_outside_the_map_is_refused(user: User) -> None:
    """A process can't be somebody whom the namespace doesn't have; the runtime would fail half-way."""
    with pytest.raises(InvalidArgument, match="nobody outside"):
        make(namespaces=OWN, user=user)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(namespaces=replace(OWN, pid="host")),
        Wishes(namespaces=OWN, security=SecurityWishes(privileged=True)),
        Wishes(namespaces=NamespaceWishes(group_ids=OWN.user_ids)),
    ],
)
def test_what_excludes_a_user_namespace_is_said(wishes: Wishes) -> None:
    """The host's processes and a privileged container need the host's users, as in Docker."""
    with pytest.raises(InvalidArgument, match="make the user namespace"):
        make(wishes)


def test_settings_of_own_namespaces_are_set() -> None:
    """Network, memory, queues and the domain name are a namespace's own."""
    settings = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "fs.mqueue.msg_max": "5", "kernel.sem": "1 2 3 4"}
    linux = make(sysctls=settings, domainname="lab.test")["linux"]
    assert linux["sysctl"] == settings | {"kernel.domainname": "lab.test"}
    assert "sysctl" not in make()["linux"]


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("kernel.panic", "1", {}),
        ("vm.overcommit_memory", "1", {}),
        ("kernel.hostname", "x", {}),
        ("kernel.shmmaxx", "1", {}),
        ("fs.file-max", "1", {}),
        ("net", "1", {}),
        ("net.", "1", {}),
        ("net/ipv4/ip_forward", "1", {}),
        ("net.ipv4/../../kernel/panic", "1", {}),
        ("NET.core.somaxconn", "1", {}),
        ("", "1", {}),
        ("net.core.somaxconn", "1\n2", {}),
        ("net.core.somaxconn", "1\0", {}),
        ("net.core.somaxconn", "1", {"network": "host"}),
        ("kernel.shmmax", "1", {"namespaces": NamespaceWishes(ipc="host")}),
        ("fs.mqueue.msg_max", "1", {"namespaces": NamespaceWishes(ipc="host")}),
        ("kernel.domainname", "x", {"namespaces": NamespaceWishes(uts="host")}),
        ("kernel.domainname", "x", {"domainname": "y"}),
        ("kernel.domainname", "x", {"namespaces": OWN}),
    ],
)
def test_setting_that_is_not_the_containers_is_refused(name: str, value: str, others: dict[str, Any]) -> None:
    """No container sets what holds for the whole host, by whatever spelling, nor a shared namespace's settings."""
    with pytest.raises(InvalidArgument, match="in the container"):
        make(sysctls={name: value}, **others)


@pytest.mark.parametrize("name", ["-x", "a b", "x" * 65, "ü", "a\nb", "(none)"])
def test_domain_name_that_is_none_is_refused(name: str) -> None:
    """A domain name is letters, digits, dots and dashes, at most 64 of them."""
    with pytest.raises(InvalidArgument, match="domain name"):
        make(domainname=name)
