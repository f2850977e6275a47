"""Limits of a container's cgroup, in the one form that runtimes take and turn into version 1's or 2's files.

What this host can't do is refused, where other engines leave it out with a warning: a limit that isn't there is
found out too late.
"""

from __future__ import annotations

import math
import re
from typing import Any

from hythe.errors import FailedPrecondition, HytheError, InvalidArgument, NotFound
from hythe_bundle.host_facts import Found, HostFacts
from hythe_bundle.wishes import IoLimit, ResourceWishes

LEAST_MEMORY_BYTES = 6 << 20
"""With less no runtime starts."""

DEFAULT_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1000
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def make(wishes: ResourceWishes, host: HostFacts, found: Found) -> dict[str, Any]:
    """Return ``linux.resources`` but for the devices; what isn't wished isn't in it and stays as inherited.

    Raises:
        InvalidArgument: a limit that no cgroup takes, or two that contradict each other.
        FailedPrecondition: this host's cgroups don't have it.
        NotFound: there is no such block device.

    Spec: OCI runtime-spec, "Control groups".
    """
    made: dict[str, Any] = {}
    for name, part in (("memory", _memory(wishes, host)), ("cpu", _cpu(wishes, host)), ("blockIO", _io(wishes, found))):
        if part:
            made[name] = part
    if wishes.pids:
        made["pids"] = {"limit": wishes.pids}
    return made


def _memory(wishes: ResourceWishes, host: HostFacts) -> dict[str, Any]:
    limit, both, reservation = wishes.memory_bytes, wishes.memory_swap_bytes, wishes.memory_reservation_bytes
    made: dict[str, Any] = {}
    if 0 < limit < LEAST_MEMORY_BYTES:
        raise _refused("memory", f"{limit} bytes are less than the least, {LEAST_MEMORY_BYTES}")
    if limit:
        made["limit"] = limit
    if reservation:
        if limit and reservation > limit:
            raise _refused("memory reservation", f"{reservation} bytes are more than the limit, {limit}")
        made["reservation"] = reservation
    if both:
        if not limit:
            raise _refused("memory and swap", "it needs a limit of memory, too")
        if 0 < both < limit:
            raise _refused("memory and swap", f"{both} bytes are less than the limit of memory, {limit}")
        if host.swap_limits:
            made["swap"] = both
        elif both > 0:
            raise _missing("memory and swap", "this kernel doesn't count swap", "boot it with swapaccount=1")
    if wishes.memory_swappiness is not None:
        _only_in_version_1("swappiness", host)
        made["swappiness"] = wishes.memory_swappiness
    if wishes.oom_kill_disable:
        _only_in_version_1("no OOM kill", host)
        if not limit:
            raise _refused("no OOM kill", "without a limit of memory it would be the host that hangs")
        made["disableOOMKiller"] = True
    return made


def _cpu(wishes: ResourceWishes, host: HostFacts) -> dict[str, Any]:
    period, quota = wishes.cpu_period_us, wishes.cpu_quota_us
    made: dict[str, Any] = {}
    if wishes.cpus:
        if period or quota:
            raise _refused("cpus", "a period or quota says the same in another way")
        most = len(host.cpus)
        if not math.isfinite(wishes.cpus) or not 0.01 <= wishes.cpus <= most:
            raise _refused("cpus", f"{wishes.cpus:g} is not from 0.01 to {most}, the number of processors of this host")
        period, quota = DEFAULT_PERIOD_US, round(wishes.cpus * DEFAULT_PERIOD_US)
    if period:
        if not 1000 <= period <= 1_000_000:
            raise _refused("period", f"{period} µs are not from 1000 to 1000000")
        made["period"] = period
    if quota:
        if quota < _LEAST_QUOTA_US and quota != -1:
            raise _refused("quota", f"{quota} µs are less than {_LEAST_QUOTA_US}")
        made["quota"] = quota
    if wishes.cpu_shares:
        if not 2 <= wishes.cpu_shares <= 262_144:
            raise _refused("shares", f"{wishes.cpu_shares} is not from 2 to 262144")
        made["shares"] = wishes.cpu_shares
    if wishes.cpuset_cpus:
        absent = _numbers("cpuset cpus", wishes.cpuset_cpus) - host.cpus
        if absent:
            raise _refused("cpuset cpus", f"this host has no processor {min(absent)}")
        made["cpus"] = wishes.cpuset_cpus
    if wishes.cpuset_mems:
        _numbers("cpuset mems", wishes.cpuset_mems)
        made["mems"] = wishes.cpuset_mems
    return made


def _io(wishes: ResourceWishes, found: Found) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if wishes.io_weight:
        if not 10 <= wishes.io_weight <= 1000:
            raise _refused("I/O weight", f"{wishes.io_weight} is not from 10 to 1000")
        if not found.io_weight:
            raise _missing("I/O weight", "no scheduler of this kernel knows weights", "load bfq, or set rates instead")
        made["weight"] = wishes.io_weight
    seen: set[tuple[int, int]] = set()
    for limit in wishes.io:
        major, minor = _block_device(limit, found)
        if (major, minor) in seen:
            raise _refused("I/O rate", f"{limit.path[:200]!r} is limited twice")
        seen.add((major, minor))
        for key, rate in (
            ("throttleReadBpsDevice", limit.read_bytes_s),
            ("throttleWriteBpsDevice", limit.write_bytes_s),
            ("throttleReadIOPSDevice", limit.read_ops_s),
            ("throttleWriteIOPSDevice", limit.write_ops_s),
        ):
            if rate:
                made.setdefault(key, []).append({"major": major, "minor": minor, "rate": rate})
    return made


def _block_device(limit: IoLimit, found: Found) -> tuple[int, int]:
    name = repr(limit.path[:200])
    if not limit.path.startswith("/"):
        raise _refused("I/O rate", f"{name} is not an absolute path of the host")
    devices = found.devices.get(limit.path, ())
    if not devices:
        raise NotFound(f"set limit I/O rate: there is no device {name} on the host", next_step="look for it with lsblk")
    device = devices[0]
    if len(devices) > 1 or device.kind != "b":
        raise _refused("I/O rate", f"{name} is no block device")
    if not device.whole:
        raise _refused("I/O rate", f"{name} is a partition; only whole disks have rates")
    return device.major, device.minor


def _numbers(what: str, text: str) -> set[int]:
    """Return the numbers in a list like ``0-3,7``.

    Spec: cpuset(7), "List format".
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise _refused(what, f"{text[:100]!r} is no list like 0-3,7")
        numbers |= set(range(first, last + 1))
    return numbers


def _only_in_version_1(what: str, host: HostFacts) -> None:
    if host.cgroup_version != 1:
        raise _missing(what, "cgroup version 2 doesn't have it", "leave it out")


def _refused(what: str, reason: str) -> HytheError:
    return InvalidArgument(f"set limit {what}: {reason}")


def _missing(what: str, reason: str, next_step: str) -> HytheError:
    return FailedPrecondition(f"set limit {what}: {reason}", outcome="not started", next_step=next_step)
