"""Limits of a container's processes, by setrlimit(2)."""

from __future__ import annotations

from typing import Any

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.wishes import RlimitWish, Wishes

NAMES = (
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
UNLIMITED = 2**64 - 1
"""RLIM_INFINITY of 64-bit Linux."""


def make(wishes: Wishes, host: HostFacts) -> list[dict[str, Any]]:
    """Return ``process.rlimits``; limits without a wish stay as the runtime inherits them.

    Raises:
        InvalidArgument: no such limit, one twice, a number out of range, or a soft limit above the hard one.
        FailedPrecondition: more than this host lets a process have.

    Spec: OCI runtime-spec, "POSIX process", rlimits; setrlimit(2).
    """
    made: dict[str, dict[str, Any]] = {}
    for wish in wishes.rlimits:
        name = wish.name.lower().removeprefix("rlimit_")
        if name not in NAMES:
            raise _refused(wish, "there is no such limit", f"name one of {', '.join(NAMES)}")
        if name in made:
            raise _refused(wish, "it is set twice")
        soft, hard = _number(wish, wish.soft), _number(wish, wish.hard)
        if soft > hard:
            raise _refused(wish, f"the soft limit {wish.soft} is above the hard one {wish.hard}")
        _check_host(name, hard, host)
        made[name] = {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
    return list(made.values())


def _number(wish: RlimitWish, value: int) -> int:
    if value == -1:
        return UNLIMITED
    if not 0 <= value <= UNLIMITED:
        raise _refused(wish, f"{value} is neither -1 nor from 0 to {UNLIMITED}")
    return value


def _check_host(name: str, hard: int, host: HostFacts) -> None:
    most = UNLIMITED if host.may_raise_limits else host.limits.get(name, UNLIMITED)
    reason = "this host runs its containers without CAP_SYS_RESOURCE"
    if name == "nofile" and host.most_open_files < most:
        most, reason = host.most_open_files, "that is fs.nr_open"
    if hard > most:
        asked = "no limit" if hard == UNLIMITED else str(hard)
        raise FailedPrecondition(
            f"set limit {name}: {asked} is more than {most}, the most that can be had here",
            cause=reason,
            outcome="not started",
            next_step=f"ask for at most {name}={most}, or raise the limit for the services of this host",
        )


def _refused(wish: RlimitWish, reason: str, next_step: str = "") -> InvalidArgument:
    return InvalidArgument(f"set limit {wish.name[:30]!r}: {reason}", next_step=next_step)
