"""Which devices a container sees and may use."""

from __future__ import annotations

from typing import Any

import pytest

from hythe.errors import InvalidArgument, NotFound
from hythe_bundle.wishes import DeviceWish, IdRange, NamespaceWishes, ResourceWishes, SecurityWishes
from tests.fixtures.specs import make


def test_devices_are_given_with_their_numbers_and_owner() -> None:
    """A device keeps its numbers, mode and owner; a directory gives all its devices, each at its place below."""
    wishes = (DeviceWish("/dev/disk", "/dev/own", "r"), DeviceWish("/dev/net", "/dev/nets"))
    linux = make(devices=wishes)["linux"]
    assert linux["devices"] == [
        {"path": "/dev/own", "type": "b", "major": 8, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6},
        {"path": "/dev/nets/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666, "uid": 0, "gid": 0},
    ]
    assert linux["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"},
    ]


def test_privileged_container_has_all_devices() -> None:
    """Every device of the host but its console, and the right to use any."""
    linux = make(security=SecurityWishes(privileged=True))["linux"]
    assert [node["path"] for node in linux["devices"]] == ["/dev/disk", "/dev/net/tun"]
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (DeviceWish("/dev/none"), NotFound),
        (DeviceWish("fuse"), InvalidArgument),
        (DeviceWish("/dev/fuse", "own"), InvalidArgument),
        (DeviceWish("/dev/fuse", "/proc/x"), InvalidArgument),
        (DeviceWish("/dev/fuse", permissions=""), InvalidArgument),
        (DeviceWish("/dev/fuse", permissions="rr"), InvalidArgument),
        (DeviceWish("/dev/fuse", permissions="x"), InvalidArgument),
    ],
)
def test_device_that_is_none_is_refused(wish: DeviceWish, error: type[Exception]) -> None:
    """A device that isn't there, a path that is none, and rights that are none are said."""
    with pytest.raises(error, match="device"):
        make(devices=(wish,))


def test_device_in_a_user_namespace_keeps_its_path() -> None:
    """There the runtime binds the host's node, so it can't have another name."""
    own = NamespaceWishes(user_ids=(IdRange(0, 100_000, 65_536),))
    assert make(devices=(DeviceWish("/dev/fuse"),), namespaces=own)["linux"]["devices"]
    with pytest.raises(InvalidArgument, match="keeps its path"):
        make(devices=(DeviceWish("/dev/fuse", "/dev/own"),), namespaces=own)
    with pytest.raises(InvalidArgument, match="already"):
        make(
            devices=(DeviceWish("/dev/fuse"), DeviceWish("/dev/net", "/dev/fuse"), DeviceWish("/dev/disk", "/dev/fuse"))
        )


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("c 1:3 rwm", {"allow": True, "type": "c", "access": "rwm", "major": 1, "minor": 3}),
        ("b 7:* r", {"allow": True, "type": "b", "access": "r", "major": 7}),
        ("a *:* rwm", {"allow": True, "type": "a", "access": "rwm"}),
        ("a", {"allow": True, "type": "a", "access": "rwm"}),
    ],
)
def test_device_rule_is_added(text: str, rule: dict[str, Any]) -> None:
    """A rule in the kernel's form comes after the one that forbids all."""
    assert make(resources=ResourceWishes(device_rules=(text,)))["linux"]["resources"]["devices"][1:] == [rule]


@pytest.mark.parametrize("text", ["", "c", "c 1:3", "x 1:3 r", "c 1:3 x", "c -1:3 r", "c 1:3 rwm rwm", "c 1:3 r\n"])
def test_device_rule_that_is_none_is_refused(text: str) -> None:
    """Anything else is no rule."""
    with pytest.raises(InvalidArgument, match="device rule"):
        make(resources=ResourceWishes(device_rules=(text,)))
