"""The process that a container begins with: as whom, what, where, and with which powers and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.oci import ImageConfig
from hythe_bundle import apparmor, command, rlimits
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.users import User
from hythe_bundle.wishes import Wishes

LEAST_OOM_SCORE, MOST_OOM_SCORE = -1000, 1000


def make(
    wishes: Wishes,
    config: ImageConfig,
    user: User,
    hostname: str,
    capabilities: Sequence[str],
    host: HostFacts,
) -> dict[str, Any]:
    """Return ``process``.

    Args:
        hostname: the container's, for its environment.
        capabilities: all that it may ever have.

    Raises:
        InvalidArgument, FailedPrecondition: see `command`, `rlimits`, `apparmor`; or an OOM score that can't be had here.

    Spec: OCI runtime-spec, "Process".
    """
    made: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        "args": command.arguments(wishes, config),
        "env": command.environment(wishes, config, hostname),
        "cwd": command.working_directory(wishes, config),
        "capabilities": {
            "bounding": list(capabilities),
            "effective": list(capabilities),
            "permitted": list(capabilities),
            "inheritable": [],
            "ambient": [],
        },
        # False as in Docker: su and ping of an image work; the bounding set still holds.
        "noNewPrivileges": wishes.security.no_new_privileges,
    }
    if limits := rlimits.make(wishes, host):
        made["rlimits"] = limits
    if wishes.oom_score_adj is not None:
        made["oomScoreAdj"] = _oom_score(wishes.oom_score_adj, host)
    if profile := apparmor.profile(wishes.security, host):
        made["apparmorProfile"] = profile
    return made


def _oom_score(wanted: int, host: HostFacts) -> int:
    if not LEAST_OOM_SCORE <= wanted <= MOST_OOM_SCORE:
        raise InvalidArgument(f"set OOM score: {wanted} is not from {LEAST_OOM_SCORE} to {MOST_OOM_SCORE}")
    if wanted < host.oom_score_adj and not host.may_raise_limits:
        raise FailedPrecondition(
            f"set OOM score: {wanted} is below {host.oom_score_adj}, the least that can be had here",
            cause="this host runs its containers without CAP_SYS_RESOURCE",
            outcome="not started",
            next_step=f"ask for {host.oom_score_adj} or more",
        )
    return wanted
