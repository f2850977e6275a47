"""Which capabilities a container has: fourteen by default, more or fewer by wish, none that the host can't give.

None is ever inheritable or ambient: a file with inheritable capabilities would win from them (CVE-2022-24769).
"""

from __future__ import annotations

from collections.abc import Sequence

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_bundle.wishes import SecurityWishes

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Each at the place of its number. Spec: capabilities(7)."""

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
_ALL = "ALL"


def granted(wishes: SecurityWishes, of_host: Sequence[str]) -> tuple[str, ...]:
    """Return the capabilities of a container with these wishes.

    A privileged one, or one that adds ``ALL``, starts from all of the host's, any other from the default's; a name that is
    both added and dropped is dropped, except that adding by name outdoes ``ALL`` dropped.

    Args:
        of_host: those that the host can give; of the default's, others are left out in silence.

    Raises:
        InvalidArgument: there is no capability of that name.
        FailedPrecondition: one that is asked for by name is none of the host's.
    """
    added, dropped = _names("add", wishes.cap_add), _names("drop", wishes.cap_drop)
    for name in added:
        if name != _ALL and name not in of_host:
            raise FailedPrecondition(
                f"add capability {name}: this host can't give it",
                outcome="not started",
                next_step="leave it out, or run the services of this host with it",
            )
    kept: Sequence[str]
    if _ALL in dropped:
        kept = [name for name in added if name != _ALL]
    elif wishes.privileged or _ALL in added:
        kept = of_host
    else:
        kept = (*DEFAULT, *(name for name in added if name not in DEFAULT))
    return tuple(name for name in dict.fromkeys(kept) if name not in dropped and name in of_host)


def _names(verb: str, texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_name(verb, text) for text in texts))


def _name(verb: str, text: str) -> str:
    upper = text.upper()
    if upper == _ALL:
        return _ALL
    name = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if name not in NAMES:
        raise InvalidArgument(
            f"{verb} capability {text[:50]!r}: there is none of that name", next_step="see capabilities(7)"
        )
    return name
