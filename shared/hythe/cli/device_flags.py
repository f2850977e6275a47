"""What ``--device``, ``--device-cgroup-rule`` and the limits of block devices say, as messages have it."""

from __future__ import annotations

import re

from hythe.cli.flag_values import integer, size_bytes, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_PERMISSIONS = re.compile(r"(?!.*(.).*\1)[rwm]{1,3}")
_RULE = re.compile(r"[acb] (?:\d{1,10}|\*):(?:\d{1,10}|\*) [rwm]{1,3}", re.ASCII)
_RATES = {
    "device_read_bps": "read_bytes_s",
    "device_write_bps": "write_bytes_s",
    "device_read_iops": "read_ops_s",
    "device_write_iops": "write_ops_s",
}


def device(text: str) -> dict[str, Any]:
    """Return the device that ``SRC[:DST][:rwm]`` spells (`hythe.wire.container.DeviceWish`).

    Raises:
        InvalidArgument: it is not understood.
    """
    flag, parts = "--device", text.split(":")
    source, rest = parts[0], parts[1:]
    permissions = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
    if not source.startswith("/"):
        raise wrong(flag, text, f"{source!r} is not an absolute path of the host")
    if not _PERMISSIONS.fullmatch(permissions):
        raise wrong(flag, text, f"{permissions!r} is neither a path nor made of r, w and m")
    if len(rest) > 1:
        raise wrong(flag, text, "expected SRC[:DST][:rwm]")
    return {"source": source, "target": rest[0] if rest else "", "permissions": permissions}


def rule(text: str) -> str:
    """Return a rule of the device cgroup.

    Raises:
        InvalidArgument: it is none.
    """
    if not _RULE.fullmatch(text):
        raise wrong("--device-cgroup-rule", text, "it is no rule", "write type, numbers and rights: 'c 1:3 rwm'")
    return text


def rates(given: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the limits of each block device that the flags in `given` name (`hythe.wire.container.IoLimit`).

    Raises:
        InvalidArgument: a value is not ``PATH:RATE``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, field in _RATES.items():
        flag = f"--{name.replace('_', '-')}"
        for text in given.get(name, ()):
            path, _, rate = text.rpartition(":")
            if not path.startswith("/"):
                raise wrong(flag, text, "expected PATH:RATE with the absolute path of a block device")
            value = size_bytes(flag, text, rate) if name.endswith("bps") else integer(flag, text, 0, 2**63 - 1, rate)
            found.setdefault(path, {"path": path})[field] = value
    return list(found.values())
