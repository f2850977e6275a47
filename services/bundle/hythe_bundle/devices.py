"""Which devices a container sees, and which it may use: by default the runtime's own few, and nothing of the host's."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from hythe.errors import InvalidArgument, NotFound
from hythe_bundle import paths
from hythe_bundle.host_facts import DEVICES, Device, Found
from hythe_bundle.wishes import DeviceWish, Wishes

_RULE = re.compile(r"([acb])(?: ([0-9]{1,9}|\*):([0-9]{1,9}|\*) ([rwm]{1,3}))?")
_CONSOLE = "/dev/console"
_MODE = 0o777


def make(wishes: Wishes, found: Found) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return ``linux.devices`` and ``linux.resources.devices``; the rules are complete and begin with one for all devices.

    The runtime adds /dev/null and the like to both, and lets any device node be made, not opened.

    Raises:
        InvalidArgument: a path, target, permission or rule that is none, or one target twice.
        NotFound: there is no device on the host.

    Spec: OCI runtime-spec, "Devices" and "Allowed Device list".
    """
    privileged = wishes.security.privileged
    nodes: dict[str, dict[str, Any]] = {}
    rules: list[dict[str, Any]] = [{"allow": privileged, "access": "rwm"}]
    if privileged:
        nodes = {
            device.path: _node(device.path, device) for device in found.devices.get(DEVICES, ()) if _usable(device)
        }
    asked: set[str] = set()
    for wish in wishes.devices:
        for target, device in _devices(wish, found):
            if target in asked:
                raise _refused(wish, f"something else is at {target} already")
            if wishes.namespaces.user_ids and target != device.path:
                raise _refused(wish, "in a user namespace a device keeps its path: the runtime can't make a node there")
            asked.add(target)
            nodes[target] = _node(target, device)
            access = {"access": _permissions(wish)}
            rules.append({"allow": True, "type": device.kind, "major": device.major, "minor": device.minor} | access)
    rules += [_rule(text) for text in wishes.resources.device_rules]
    return list(nodes.values()), rules


def _devices(wish: DeviceWish, found: Found) -> list[tuple[str, Device]]:
    """Return each device of a wish beside its path in the container."""
    if not wish.source.startswith("/"):
        raise _refused(wish, "it is not an absolute path of the host")
    target = paths.target("put a device at", wish.target or wish.source)
    devices = found.devices.get(wish.source, ())
    if not devices:
        raise NotFound(
            f"give device {wish.source[:200]!r}: there is no device on the host", next_step="look for it with ls -l"
        )
    top = posixpath.normpath(wish.source)
    if len(devices) == 1 and devices[0].path == top:
        return [(target, devices[0])]
    return [(target + device.path.removeprefix(top), device) for device in devices if _usable(device)]


def _usable(device: Device) -> bool:
    """Tell whether a device that is only one of many is worth having: the host's console is not."""
    return device.path != _CONSOLE


def _node(path: str, device: Device) -> dict[str, Any]:
    return {
        "path": path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode & _MODE,
        "uid": device.uid,
        "gid": device.gid,
    }


def _permissions(wish: DeviceWish) -> str:
    text = wish.permissions
    if not text or len(set(text)) != len(text) or not set(text) <= set("rwm"):
        raise _refused(wish, f"permissions {text[:10]!r} are not some of r, w and m")
    return text


def _rule(text: str) -> dict[str, Any]:
    match = _RULE.fullmatch(text)
    if match is None or (match[1] != "a" and match[2] is None):
        raise InvalidArgument(
            f"set device rule {text[:50]!r}: it is none", next_step="write e.g. 'c 1:3 rwm', with * for any number"
        )
    rule: dict[str, Any] = {"allow": True, "type": match[1], "access": match[4] or "rwm"}
    for key, number in (("major", match[2]), ("minor", match[3])):
        if number is not None and number != "*":
            rule[key] = int(number)
    return rule


def _refused(wish: DeviceWish, reason: str) -> InvalidArgument:
    return InvalidArgument(f"give device {wish.source[:200]!r}: {reason}")
