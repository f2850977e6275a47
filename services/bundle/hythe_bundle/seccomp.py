"""The default seccomp profile: an allow-list in the spirit of moby's, resolved for one processor and one set of capabilities.

``seccomp.json`` has the names of the system calls that a container may make, by where they exist, and those that its
capabilities add, without which they would only fail. Left out are those that have no namespaced meaning (keys, clocks,
modules) or whose record is poor (io_uring, userfaultfd). A filter costs milliseconds at each start for every processor that it
covers (measured: 1 ms for one, 4 more for each other), so the 32-bit twin is covered only where an image has programs for it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hythe.errors import Unimplemented

_PROCESSORS = {
    "amd64": ("SCMP_ARCH_X86_64", "386", "SCMP_ARCH_X86"),
    "arm64": ("SCMP_ARCH_AARCH64", "arm", "SCMP_ARCH_ARM"),
}
_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_EPERM = 1
_ENOSYS = 38
_NEW_NAMESPACES = 0x7E020000
_AF_VSOCK = 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_REMEMBERED = 64

_Names = Mapping[str, list[str]]


@functools.lru_cache(_REMEMBERED)
def profile(architecture: str, with_32_bit: bool, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """Return the profile as ``linux.seccomp`` of config.json; shared by all callers, so not to be changed.

    Args:
        architecture: processor as images name it: ``amd64`` or ``arm64``.
        with_32_bit: whether programs for the 32-bit processor that it also runs are let through; others are killed.
        capabilities: those in the container's bounding set.

    Raises:
        Unimplemented: another processor.

    Spec: OCI runtime-spec, "Seccomp".
    """
    if architecture not in _PROCESSORS:
        raise Unimplemented(f"make seccomp profile: there is none for {architecture} yet")
    native, twin, twin_name = _PROCESSORS[architecture]
    places = ("everywhere", architecture, *((twin,) if with_32_bit else ()))
    always, by_capability = _lists()
    names = _at(always, places)
    for capability in capabilities:
        names |= _at(by_capability.get(capability, {}), places)
    rules = [
        {"names": sorted(names), "action": _ALLOW},
        _only("socket", 0, _AF_VSOCK, "SCMP_CMP_NE"),
        *(_only("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
    ]
    if "clone" not in names:
        rules.append(_only("clone", 0, _NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ", 0))
    if "clone3" not in names:  # libraries then fall back to clone
        rules.append({"names": ["clone3"], "action": _ERRNO, "errnoRet": _ENOSYS})
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": _EPERM,
        "architectures": [native, twin_name] if with_32_bit else [native],
        "syscalls": rules,
    }


@functools.cache
def _lists() -> tuple[_Names, Mapping[str, _Names]]:
    """Return the names without a condition, and those by capability."""
    lists: dict[str, Any] = json.loads((Path(__file__).parent / "seccomp.json").read_text())
    by_capability: dict[str, _Names] = lists.pop("capabilities")
    return lists, by_capability


def _at(lists: _Names, places: tuple[str, ...]) -> set[str]:
    return {name for place in places for name in lists.get(place, ())}


def _only(name: str, index: int, value: int, operator: str, value_two: int | None = None) -> dict[str, Any]:
    argument: dict[str, Any] = {"index": index, "value": value, "op": operator}
    if value_two is not None:
        argument["valueTwo"] = value_two
    return {"names": [name], "action": _ALLOW, "args": [argument]}
