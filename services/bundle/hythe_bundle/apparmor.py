"""Which AppArmor profile confines a container, on a host that has AppArmor."""

from __future__ import annotations

import re

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.wishes import SecurityWishes

DEFAULTS = ("hythe-default", "docker-default")
"""The first of these that is loaded confines a container without a wish."""

UNCONFINED = "unconfined"
_NAME = re.compile(r"[A-Za-z0-9_./:+-]{1,200}")


def profile(wishes: SecurityWishes, host: HostFacts) -> str:
    """Return the profile's name; empty for none.

    Raises:
        InvalidArgument: that is no profile's name.
        FailedPrecondition: it is asked for by name, and the host has no AppArmor or hasn't loaded it.
    """
    loaded = host.apparmor
    wish = wishes.apparmor
    if wish and not _NAME.fullmatch(wish):
        raise InvalidArgument(f"set AppArmor profile {wish[:100]!r}: that is no name of a profile")
    if wish == UNCONFINED:
        return UNCONFINED if loaded is not None else ""
    if wish:
        if loaded is None or wish not in loaded:
            reason = "this host has no AppArmor" if loaded is None else "it is not loaded on this host"
            raise FailedPrecondition(
                f"set AppArmor profile {wish!r}: {reason}",
                outcome="not started",
                next_step="load it with apparmor_parser, or leave the option out",
            )
        return wish
    if loaded is None:
        return ""
    if wishes.privileged:
        return UNCONFINED
    return next((name for name in DEFAULTS if name in loaded), "")
