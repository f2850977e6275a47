"""What the flags of limits say, as `hythe.wire.container.ResourceWishes` and `RlimitWish`."""

from __future__ import annotations

import re

from hythe.cli.flag_values import integer, size_bytes, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

LEAST_MEMORY_BYTES = 6 << 20
RLIMITS = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)
_CPUS = re.compile(r"\d{1,6}(?:\.\d{1,9})?|\.\d{1,9}", re.ASCII)
_CPUSET = re.compile(r"\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*", re.ASCII)


def resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that the flags in `given`, by their names, set.

    Raises:
        InvalidArgument: a value is none, or two of them contradict each other.
    """
    found: dict[str, Any] = {**_memory(given), **_processors(given)}
    if "pids_limit" in given:
        found["pids"] = integer("--pids-limit", given["pids_limit"], -1, 2**22)
    if "blkio_weight" in given:
        weight = integer("--blkio-weight", given["blkio_weight"], 0, 1000)
        if 0 < weight < 10:
            raise wrong("--blkio-weight", given["blkio_weight"], "it is not from 10 to 1000")
        found["io_weight"] = weight
    if any(name.startswith("device_") for name in given):
        from hythe.cli import device_flags

        found["io"] = device_flags.rates(given)
        found["device_rules"] = [device_flags.rule(text) for text in given.get("device_cgroup_rule", ())]
    return found


def _memory(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "memory" in given:
        found["memory_bytes"] = size_bytes("--memory", given["memory"])
        if 0 < found["memory_bytes"] < LEAST_MEMORY_BYTES:
            raise wrong("--memory", given["memory"], "it is less than 6m, which no container can do with")
    most = found.get("memory_bytes", 0)
    if "memory_reservation" in given:
        kept = found["memory_reservation_bytes"] = size_bytes("--memory-reservation", given["memory_reservation"])
        if most and kept > most:
            raise wrong("--memory-reservation", given["memory_reservation"], "it is more than --memory")
    if "memory_swap" in given:
        text = given["memory_swap"]
        if not most and text != "0":
            raise wrong("--memory-swap", text, "it needs --memory")
        together = found["memory_swap_bytes"] = -1 if text == "-1" else size_bytes("--memory-swap", text)
        if 0 < together < most:
            raise wrong("--memory-swap", text, "it counts memory and swap together and is less than --memory")
    if "memory_swappiness" in given and given["memory_swappiness"] != "-1":
        found["memory_swappiness"] = integer("--memory-swappiness", given["memory_swappiness"], 0, 100)
    if "oom_kill_disable" in given:
        found["oom_kill_disable"] = True
    return found


def _processors(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "cpus" in given:
        text = given["cpus"]
        if not _CPUS.fullmatch(text):
            raise wrong("--cpus", text, "it is no number of processors", "write e.g. 2 or 0.5")
        if "cpu_period" in given or "cpu_quota" in given:
            raise wrong("--cpus", text, "it is another way to say --cpu-period and --cpu-quota; give one of them")
        found["cpus"] = float(text)
    if "cpu_shares" in given:
        found["cpu_shares"] = integer("--cpu-shares", given["cpu_shares"], 0, 262_144)
    if "cpu_period" in given:
        found["cpu_period_us"] = integer("--cpu-period", given["cpu_period"], 1000, 1_000_000)
    if "cpu_quota" in given:
        quota = found["cpu_quota_us"] = integer("--cpu-quota", given["cpu_quota"], -1, 2**53)
        if 0 < quota < 1000:
            raise wrong("--cpu-quota", given["cpu_quota"], "it is less than 1000 microseconds")
    for name in ("cpuset_cpus", "cpuset_mems"):
        if name in given:
            if not _CPUSET.fullmatch(given[name]):
                raise wrong(f"--{name.replace('_', '-')}", given[name], "it is no list of numbers", "write e.g. 0-3,5")
            found[name] = given[name]
    return found


def rlimits(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the limits that ``NAME=SOFT[:HARD]`` spell, the later of one name wins; -1 or ``unlimited`` is no limit.

    Raises:
        InvalidArgument: one of them is not understood, or its soft limit is above the hard one.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in RLIMITS:
            raise wrong("--ulimit", text, f"there is no limit {name!r}", f"limits are {', '.join(RLIMITS)}")
        first, colon, second = values.partition(":")
        soft = _limit(text, first)
        hard = _limit(text, second) if colon else soft
        if hard != -1 and (soft == -1 or soft > hard):
            raise wrong("--ulimit", text, "the soft limit is above the hard one")
        found[name] = {"name": name, "soft": soft, "hard": hard}
    return list(found.values())


def _limit(whole: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise wrong("--ulimit", whole, f"{text!r} is no number", "write e.g. nofile=1024:4096; -1 is no limit")
    return int(text)
