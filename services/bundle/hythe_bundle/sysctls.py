"""Kernel settings of a container: only those that its own namespaces hold, so that none is ever the host's."""

from __future__ import annotations

import re

from hythe.errors import InvalidArgument
from hythe_bundle.wishes import Wishes

DOMAINNAME = "kernel.domainname"
_NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[A-Za-z0-9_-]+)+")
_IPC = {
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
}
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")


def make(wishes: Wishes) -> dict[str, str]:
    """Return ``linux.sysctl``, the domain name among them: OCI's version 1.0 has no other place for it.

    Raises:
        InvalidArgument: a setting that is not a namespace's, or of a namespace that the container shares with its host; a
            domain name that is none.

    Spec: OCI runtime-spec, "Sysctl"; sysctl(8), namespaces(7).
    """
    made: dict[str, str] = {}
    for name, value in wishes.sysctls.items():
        if not _NAME.fullmatch(name) or "\0" in value or "\n" in value or len(value) > 4096:
            raise _refused(name, "that is no setting with a value of one line")
        _check(name, wishes)
        made[name] = value
    if wishes.domainname:
        if not _DOMAIN.fullmatch(wishes.domainname):
            raise InvalidArgument(
                f"set the domain name: {wishes.domainname[:100]!r} is not made of letters, digits, dots and dashes alone"
            )
        if DOMAINNAME in made:
            raise _refused(DOMAINNAME, "the domain name is asked for in another way already")
        made |= {DOMAINNAME: wishes.domainname}
        _check(DOMAINNAME, wishes)
    return made


def _check(name: str, wishes: Wishes) -> None:
    namespaces = wishes.namespaces
    if name.startswith("net."):
        owner, shared = "network", wishes.network == "host"
    elif name in _IPC or name.startswith("fs.mqueue."):
        owner, shared = "ipc", namespaces.ipc == "host"
    elif name == DOMAINNAME:
        owner, shared = "uts", namespaces.uts == "host"
        if namespaces.user_ids:
            raise _refused(name, "in a user namespace nobody may write it")
    elif name == "kernel.hostname":
        raise _refused(name, "the host name has an option of its own", "use --hostname")
    else:
        raise _refused(name, "it is not a namespace's but the whole host's", "set it on the host")
    if shared:
        raise _refused(name, f"the container shares its {owner} namespace with the host, whose setting it would be")


def _refused(name: str, reason: str, next_step: str = "") -> InvalidArgument:
    return InvalidArgument(f"set {name[:100]!r} in the container: {reason}", next_step=next_step)
