"""What a container may do beyond or below the default: capabilities, filters, masks, AppArmor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_bundle import capabilities
from hythe_bundle.wishes import SecurityWishes
from tests.fixtures.specs import HOST, make

MOST = tuple(name for name in capabilities.NAMES if name != "CAP_SYS_RESOURCE")


@pytest.mark.parametrize(
    ("add", "drop", "privileged", "expected"),
    [
        ((), (), False, set(capabilities.DEFAULT)),
        (("net_admin", "CAP_SYS_PTRACE"), (), False, {*capabilities.DEFAULT, "CAP_NET_ADMIN", "CAP_SYS_PTRACE"}),
        ((), ("MKNOD", "cap_kill"), False, {*capabilities.DEFAULT} - {"CAP_MKNOD", "CAP_KILL"}),
        ((), ("ALL",), False, set()),
        (("CHOWN",), ("all",), False, {"CAP_CHOWN"}),
        (("ALL",), (), False, set(MOST)),
        (("ALL",), ("SYS_ADMIN",), False, {*MOST} - {"CAP_SYS_ADMIN"}),
        (("BPF",), ("BPF",), False, set(capabilities.DEFAULT)),
        ((), (), True, set(MOST)),
        ((), ("NET_RAW",), True, {*MOST} - {"CAP_NET_RAW"}),
    ],
)
def test_capabilities_are_those_asked_for(
    add: tuple[str, ...], drop: tuple[str, ...], privileged: bool, expected: set[str]
) -> None:
    """With or without CAP_, one by one or all; never more than the host has, and what is dropped is dropped."""
    wishes = SecurityWishes(privileged=privileged, cap_add=add, cap_drop=drop)
    found = make(security=wishes, host=replace(HOST, capabilities=MOST))["process"]["capabilities"]
    assert set(found["bounding"]) == expected and found["bounding"] == found["permitted"] == found["effective"]
    assert found["inheritable"] == found["ambient"] == []


@pytest.mark.parametrize("name", ["", "CAP_", "NOPE", "CAP_CAP_CHOWN", "all "])
def test_capability_that_is_none_is_refused(name: str) -> None:
    """A misspelt capability isn't left out in silence."""
    for wishes in (SecurityWishes(cap_add=(name,)), SecurityWishes(cap_drop=(name,))):
        with pytest.raises(InvalidArgument, match="capability"):
            make(security=wishes)


def test_capability_that_the_host_has_not_is_refused() -> None:
    """What the host can't give is said by name; of the default set it is left out."""
    with pytest.raises(FailedPrecondition, match="CAP_SYS_RESOURCE"):
        make(security=SecurityWishes(cap_add=("SYS_RESOURCE",)), host=replace(HOST, capabilities=MOST))
    found = make(host=replace(HOST, capabilities=("CAP_CHOWN", "CAP_SYS_ADMIN")))["process"]["capabilities"]
    assert found["bounding"] == ["CAP_CHOWN"]


def filtered(made: dict[str, Any]) -> set[str]:
    """Return the system calls that a spec allows without a condition."""
    return set(made["linux"]["seccomp"]["syscalls"][0]["names"])


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("SYS_ADMIN", {"mount", "unshare", "setns", "clone", "clone3", "bpf"}),
        ("SYS_PTRACE", {"kcmp", "pidfd_getfd"}),
        ("BPF", {"bpf"}),
        ("SYS_MODULE", {"init_module"}),
        ("SYS_TIME", {"clock_settime"}),
        ("SYSLOG", {"syslog"}),
        ("SYS_RAWIO", {"iopl"}),
    ],
)
def test_filter_follows_the_capabilities(capability: str, calls: set[str]) -> None:
    """A capability is of no use without its system calls, which are let through with it and only with it."""
    assert not calls & filtered(make())
    made = make(security=SecurityWishes(cap_add=(capability,)))
    assert calls <= filtered(made)
    conditional = {name for rule in made["linux"]["seccomp"]["syscalls"][1:] for name in rule["names"]}
    assert not calls & conditional
    assert "chroot" not in filtered(make(security=SecurityWishes(cap_drop=("SYS_CHROOT",))))


def test_filter_can_be_left_out_or_replaced() -> None:
    """``unconfined`` has none, a privileged container has none, and one's own stands in place of the default."""
    own = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}'
    assert "seccomp" not in make(security=SecurityWishes(seccomp="unconfined"))["linux"]
    assert "seccomp" not in make(security=SecurityWishes(privileged=True))["linux"]
    for privileged in (False, True):
        found = make(security=SecurityWishes(privileged=privileged, seccomp=own))["linux"]["seccomp"]
        assert found["syscalls"] == [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]


def test_masks_can_be_taken_off() -> None:
    """``unmask`` shows all of /proc and /sys, a privileged container sees it anyway."""
    for wishes in (SecurityWishes(unmask=True), SecurityWishes(privileged=True)):
        linux = make(security=wishes)["linux"]
        assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert len(make()["linux"]["maskedPaths"]) == 12


@pytest.mark.parametrize(
    ("wish", "loaded", "privileged", "expected"),
    [
        ("", None, False, None),
        ("unconfined", None, False, None),
        ("", {"docker-default"}, False, "docker-default"),
        ("", {"docker-default", "hythe-default"}, False, "hythe-default"),
        ("", set(), False, None),
        ("", {"docker-default"}, True, "unconfined"),
        ("unconfined", {"docker-default"}, False, "unconfined"),
        ("mine", {"mine"}, True, "mine"),
    ],
)
def test_apparmor_confines_where_it_is(
    wish: str, loaded: set[str] | None, privileged: bool, expected: str | None
) -> None:
    """The default profile where one is loaded, or another by name; none for a privileged container or without AppArmor."""
    host = replace(HOST, apparmor=None if loaded is None else frozenset(loaded))
    made = make(security=SecurityWishes(apparmor=wish, privileged=privileged), host=host)
    assert made["process"].get("apparmorProfile") == expected


@pytest.mark.parametrize(("wish", "loaded"), [("mine", None), ("mine", frozenset({"other"}))])
def test_apparmor_profile_that_is_not_loaded_is_said(wish: str, loaded: frozenset[str] | None) -> None:
    """Who asks for a profile by name is told that it isn't there, instead of running without."""
    with pytest.raises(FailedPrecondition, match="AppArmor"):
        make(security=SecurityWishes(apparmor=wish), host=replace(HOST, apparmor=loaded))
    with pytest.raises(InvalidArgument, match="no name"):
        make(security=SecurityWishes(apparmor="a\nb"))
